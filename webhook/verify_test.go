package webhook_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/posthorn/posthorn/webhook"
)

// another is a well-formed signature that fits nothing.
const another = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(*message) {
		return func(m *message) { m.header.Set(name, value) }
	}
	edit := func(name string, change func(string) string) func(*message) {
		return func(m *message) { m.header.Set(name, change(m.header.Get(name))) }
	}
	repeat := func(name string) func(*message) {
		return func(m *message) { m.header.Add(name, m.header.Get(name)) }
	}
	signature := func(change func(string) string) func(*message) { return edit(webhook.HeaderSignature, change) }
	seconds := func(change func(string) string) func(*message) { return edit(webhook.HeaderTimestamp, change) }

	for name, c := range map[string]struct {
		spoil func(*message)
		want  error
	}{
		"NoHeader":          {func(m *message) { m.header = nil }, webhook.ErrMissingHeader},
		"NoID":              {func(m *message) { m.header.Del(webhook.HeaderID) }, webhook.ErrMissingHeader},
		"NoTimestamp":       {func(m *message) { m.header.Del(webhook.HeaderTimestamp) }, webhook.ErrMissingHeader},
		"NoSignature":       {func(m *message) { m.header.Del(webhook.HeaderSignature) }, webhook.ErrMissingHeader},
		"RepeatedID":        {repeat(webhook.HeaderID), webhook.ErrRepeatedHeader},
		"RepeatedTimestamp": {repeat(webhook.HeaderTimestamp), webhook.ErrRepeatedHeader},
		"RepeatedSignature": {repeat(webhook.HeaderSignature), webhook.ErrRepeatedHeader},

		"EmptyID": {set(webhook.HeaderID, ""), webhook.ErrInvalidID},
		"DotInID": {set(webhook.HeaderID, "evt.01"), webhook.ErrInvalidID},
		"OtherID": {set(webhook.HeaderID, "evt_02"), webhook.ErrNoMatchingSignature},

		"EmptyTimestamp":         {set(webhook.HeaderTimestamp, ""), webhook.ErrInvalidTimestamp},
		"TimestampInWords":       {set(webhook.HeaderTimestamp, "now"), webhook.ErrInvalidTimestamp},
		"TimestampInRFC3339":     {set(webhook.HeaderTimestamp, signedAt.Format(time.RFC3339)), webhook.ErrInvalidTimestamp},
		"TimestampWithFraction":  {seconds(func(s string) string { return s + ".5" }), webhook.ErrInvalidTimestamp},
		"TimestampWithPlus":      {seconds(func(s string) string { return "+" + s }), webhook.ErrInvalidTimestamp},
		"TimestampWithZero":      {seconds(func(s string) string { return "0" + s }), webhook.ErrInvalidTimestamp},
		"TimestampWithSpace":     {seconds(func(s string) string { return " " + s }), webhook.ErrInvalidTimestamp},
		"TimestampInHex":         {set(webhook.HeaderTimestamp, "0x6955b900"), webhook.ErrInvalidTimestamp},
		"NegativeTimestamp":      {seconds(func(s string) string { return "-" + s }), webhook.ErrInvalidTimestamp},
		"MinusZero":              {set(webhook.HeaderTimestamp, "-0"), webhook.ErrInvalidTimestamp},
		"TimestampBeyondInt64":   {set(webhook.HeaderTimestamp, "9223372036854775808"), webhook.ErrInvalidTimestamp},
		"TimestampLargestInt64":  {set(webhook.HeaderTimestamp, "9223372036854775807"), webhook.ErrTimestampTooNew},
		"TimestampInMillisecond": {seconds(func(s string) string { return s + "000" }), webhook.ErrTimestampTooNew},
		"TimestampZero":          {set(webhook.HeaderTimestamp, "0"), webhook.ErrTimestampTooOld},
		"OtherRecentTimestamp": {set(webhook.HeaderTimestamp, strconv.FormatInt(signedAt.Unix()+1, 10)),
			webhook.ErrNoMatchingSignature},

		"EmptySignature":      {set(webhook.HeaderSignature, ""), webhook.ErrNoMatchingSignature},
		"SpacesForSignature":  {set(webhook.HeaderSignature, "   "), webhook.ErrNoMatchingSignature},
		"VersionAlone":        {set(webhook.HeaderSignature, "v1,"), webhook.ErrNoMatchingSignature},
		"VersionWithoutComma": {set(webhook.HeaderSignature, "v1"), webhook.ErrNoMatchingSignature},
		"TruncatedSignature":  {signature(func(s string) string { return s[:len(s)-1] }), webhook.ErrNoMatchingSignature},
		"HalfASignature":      {signature(func(s string) string { return s[:len(s)/2] }), webhook.ErrNoMatchingSignature},
		"LongerSignature":     {signature(func(s string) string { return s + "A" }), webhook.ErrNoMatchingSignature},
		"TrailingComma":       {signature(func(s string) string { return s + ",x" }), webhook.ErrNoMatchingSignature},
		"NoVersion":           {signature(func(s string) string { return s[len("v1,"):] }), webhook.ErrNoMatchingSignature},
		"OnlyV1a":             {signature(func(s string) string { return "v1a" + s[len("v1"):] }), webhook.ErrNoMatchingSignature},
		"OnlyV2":              {signature(func(s string) string { return "v2" + s[len("v1"):] }), webhook.ErrNoMatchingSignature},
		"UpperCaseVersion":    {signature(func(s string) string { return "V1" + s[len("v1"):] }), webhook.ErrNoMatchingSignature},
		"URLAlphabet":         {signature(toURLAlphabet), webhook.ErrNoMatchingSignature},
		"CommaSeparatedList":  {signature(func(s string) string { return another + "," + s }), webhook.ErrNoMatchingSignature},
		"OtherSignature":      {set(webhook.HeaderSignature, another), webhook.ErrNoMatchingSignature},

		"SameIDWithOtherBody": {func(m *message) { m.body = []byte(`{"order_id":18}`) }, webhook.ErrNoMatchingSignature},
		"EmptyBody":           {func(m *message) { m.body = nil }, webhook.ErrNoMatchingSignature},
		"ReencodedBody":       {func(m *message) { m.body = []byte(`{"order_id": 17}`) }, webhook.ErrNoMatchingSignature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := secretWithURLUnsafeSignature(t)
			verifier, m := verifierAt(t, signedAt, secret), sign(t, signedAt, secret)
			if err := verifier.Verify(m.header, m.body); err != nil {
				t.Fatalf("refused before it was spoilt: %v", err)
			}
			c.spoil(&m)
			wantError(t, verifier.Verify(m.header, m.body), c.want)
		})
	}

	t.Run("OtherSecret", func(t *testing.T) {
		t.Parallel()
		m := sign(t, signedAt, webhook.NewSecret())
		wantError(t, verifierAt(t, signedAt, webhook.NewSecret()).Verify(m.header, m.body), webhook.ErrNoMatchingSignature)
	})

	t.Run("EverythingWhenNotMadeByNewVerifier", func(t *testing.T) {
		t.Parallel()
		m := sign(t, time.Now(), webhook.NewSecret())
		wantError(t, new(webhook.Verifier).Verify(m.header, m.body), webhook.ErrSecretCount)
	})
}

// secretWithURLUnsafeSignature returns a secret under which the tests' message
// has a signature that differs between base64's alphabets.
func secretWithURLUnsafeSignature(t *testing.T) webhook.Secret {
	t.Helper()
	for {
		secret := webhook.NewSecret()
		if strings.ContainsAny(sign(t, signedAt, secret).header.Get(webhook.HeaderSignature), "+/") {
			return secret
		}
	}
}

func toURLAlphabet(s string) string { return strings.NewReplacer("+", "-", "/", "_").Replace(s) }

func TestVerifyTolerance(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tolerance, skew time.Duration // skew: the verifier's clock less the signing time
		want            error
	}{
		"ExactlyFiveMinutesOldIsAccepted":     {0, 300 * time.Second, nil},
		"OneSecondMoreIsTooOld":               {0, 301 * time.Second, webhook.ErrTimestampTooOld},
		"ExactlyFiveMinutesAheadIsAccepted":   {0, -300 * time.Second, nil},
		"OneSecondMoreIsTooNew":               {0, -301 * time.Second, webhook.ErrTimestampTooNew},
		"NegativeMeansTheDefault":             {-time.Hour, 300 * time.Second, nil},
		"NegativeDoesNotSwitchTheCheckOff":    {-time.Hour, 301 * time.Second, webhook.ErrTimestampTooOld},
		"OwnToleranceAcceptsItsLastSecond":    {10 * time.Second, 10 * time.Second, nil},
		"OwnToleranceRefusesTheNextSecond":    {10 * time.Second, 11 * time.Second, webhook.ErrTimestampTooOld},
		"OwnToleranceHoldsForTheFutureToo":    {10 * time.Second, -11 * time.Second, webhook.ErrTimestampTooNew},
		"BelowASecondOnlyTheSameSecondPasses": {time.Millisecond, time.Second, webhook.ErrTimestampTooOld},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := webhook.NewSecret()
			m := sign(t, signedAt, secret)
			verifier := verifierAt(t, signedAt.Add(c.skew), secret)
			verifier.Tolerance = c.tolerance
			if err := verifier.Verify(m.header, m.body); c.want != nil {
				wantError(t, err, c.want)
			} else if err != nil {
				t.Errorf("refused: %v", err)
			}
		})
	}

	t.Run("UsesTheRealClockByDefault", func(t *testing.T) {
		t.Parallel()
		secret := webhook.NewSecret()
		verifier, err := webhook.NewVerifier(secret)
		if err != nil {
			t.Fatal(err)
		}
		now, old := sign(t, time.Now(), secret), sign(t, time.Now().Add(-time.Hour), secret)
		if err := verifier.Verify(now.header, now.body); err != nil {
			t.Errorf("refused: %v", err)
		}
		wantError(t, verifier.Verify(old.header, old.body), webhook.ErrTimestampTooOld)
	})
}

func TestVerifyAccepts(t *testing.T) {
	t.Parallel()

	t.Run("WhatWasSigned", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			id := rapid.StringMatching(`[!-\-/-~]{1,60}`).Draw(t, "id")
			body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
			at := time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "unix"), 0)
			skew := time.Duration(rapid.IntRange(-300, 300).Draw(t, "skew")) * time.Second
			secret := webhook.NewSecret()
			signature, err := webhook.Sign(id, at, body, secret)
			if err != nil {
				t.Fatal(err)
			}
			header := http.Header{}
			header.Set(webhook.HeaderID, id)
			header.Set(webhook.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
			header.Set(webhook.HeaderSignature, signature)
			if err := verifierAt(t, at.Add(skew), secret).Verify(header, body); err != nil {
				t.Fatal(err)
			}
		})
	})

	t.Run("AnyPositionInTheListUpTo32", func(t *testing.T) {
		t.Parallel()
		public, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		v1a := "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(private, public))
		junk := []string{another, v1a, "v2,x", "v1", "v1,", ",", "v1,short", "%", strings.Repeat("long", 100)}
		rapid.Check(t, func(t *rapid.T) {
			list := rapid.SliceOfN(rapid.SampledFrom(junk), 0, 31).Draw(t, "others")
			position := rapid.IntRange(0, len(list)).Draw(t, "position")
			secret := webhook.NewSecret()
			m := sign(t, signedAt, secret)
			list = slices.Insert(list, position, m.header.Get(webhook.HeaderSignature))
			m.header.Set(webhook.HeaderSignature, strings.Join(list, " "))
			if err := verifierAt(t, signedAt, secret).Verify(m.header, m.body); err != nil {
				t.Fatal(err)
			}
		})
	})

	t.Run("NoMoreThan32Signatures", func(t *testing.T) {
		t.Parallel()
		secret := webhook.NewSecret()
		m := sign(t, signedAt, secret)
		m.header.Set(webhook.HeaderSignature, strings.Repeat(another+" ", 32)+m.header.Get(webhook.HeaderSignature))
		wantError(t, verifierAt(t, signedAt, secret).Verify(m.header, m.body), webhook.ErrNoMatchingSignature)
	})

	t.Run("AnyOfItsSecretsFromAnyOfTheSenders", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			all := make([]webhook.Secret, 9)
			for i := range all {
				all[i] = webhook.NewSecret()
			}
			// Both hold five, and have only all[4] in common.
			sender := rapid.Permutation(all[:5]).Draw(t, "sender")
			receiver := rapid.Permutation(all[4:]).Draw(t, "receiver")
			m := sign(t, signedAt, sender...)
			if err := verifierAt(t, signedAt, receiver...).Verify(m.header, m.body); err != nil {
				t.Fatal(err)
			}
			if err := verifierAt(t, signedAt, all[5:]...).Verify(m.header, m.body); err == nil {
				t.Fatal("accepted with no secret in common")
			}
		})
	})
}

func TestVerifyRefusesAnyFlippedBit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := webhook.NewSecret()
		m := sign(t, signedAt, secret)
		parts := [][]byte{
			[]byte(m.header.Get(webhook.HeaderID)),
			[]byte(m.header.Get(webhook.HeaderTimestamp)),
			[]byte(m.header.Get(webhook.HeaderSignature)),
			slices.Clone(m.body),
		}
		part := rapid.SampledFrom(parts).Draw(t, "part")
		at := rapid.IntRange(0, len(part)-1).Draw(t, "byte")
		part[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")

		m.header.Set(webhook.HeaderID, string(parts[0]))
		m.header.Set(webhook.HeaderTimestamp, string(parts[1]))
		m.header.Set(webhook.HeaderSignature, string(parts[2]))
		if err := verifierAt(t, signedAt, secret).Verify(m.header, parts[3]); err == nil {
			t.Fatal("accepted with a flipped bit")
		}
	})
}

func TestNewVerifier(t *testing.T) {
	t.Parallel()
	secret := webhook.NewSecret()
	for name, c := range map[string]struct {
		secrets []webhook.Secret
		want    error
	}{
		"NoSecret":   {nil, webhook.ErrSecretCount},
		"SixSecrets": {slices.Repeat([]webhook.Secret{secret}, 6), webhook.ErrSecretCount},
		"ZeroSecret": {[]webhook.Secret{secret, {}}, webhook.ErrInvalidSecret},
	} {
		t.Run("Refuses"+name, func(t *testing.T) {
			t.Parallel()
			verifier, err := webhook.NewVerifier(c.secrets...)
			wantError(t, err, c.want)
			if verifier != nil {
				t.Error("a verifier is returned beside the error")
			}
		})
	}
}
