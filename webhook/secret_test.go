package webhook_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/posthorn/posthorn/webhook"
)

func TestParseSecret(t *testing.T) {
	t.Parallel()
	text := func(n int, encoding *base64.Encoding) string {
		return "whsec_" + encoding.EncodeToString(bytes.Repeat([]byte{0xfb}, n))
	}

	t.Run("Accepts24To64BytesPaddedOrNot", func(t *testing.T) {
		t.Parallel()
		for n := webhook.MinSecretBytes; n <= webhook.MaxSecretBytes; n++ {
			padded, err := webhook.ParseSecret(text(n, base64.StdEncoding))
			if err != nil {
				t.Errorf("%d bytes, padded: %v", n, err)
			}
			unpadded, err := webhook.ParseSecret(text(n, base64.RawStdEncoding))
			if err != nil {
				t.Errorf("%d bytes, unpadded: %v", n, err)
			}
			if len(padded.Bytes()) != n || !padded.Equal(unpadded) {
				t.Errorf("%d bytes: padded and unpadded are not the same secret", n)
			}
		}
	})

	refused := map[string]struct{ text, says string }{
		"Empty":              {"", `it must begin with "whsec_"`},
		"PrefixAlone":        {"whsec_", "it holds 0 bytes"},
		"NoPrefix":           {strings.TrimPrefix(text(32, base64.StdEncoding), "whsec_"), `it must begin with "whsec_"`},
		"OtherPrefix":        {strings.Replace(text(32, base64.StdEncoding), "whsec_", "whsk_", 1), `it must begin with "whsec_"`},
		"UpperCasePrefix":    {strings.Replace(text(32, base64.StdEncoding), "whsec_", "WHSEC_", 1), `it must begin with "whsec_"`},
		"23Bytes":            {text(23, base64.StdEncoding), "it holds 23 bytes; it must hold 24 to 64"},
		"65Bytes":            {text(65, base64.StdEncoding), "it holds 65 bytes; it must hold 24 to 64"},
		"URLAlphabet":        {text(32, base64.URLEncoding), "not standard base64"},
		"OneCharacterLess":   {text(33, base64.StdEncoding)[:6+43], "not standard base64"},
		"TooMuchPadding":     {text(32, base64.StdEncoding) + "=", "not standard base64"},
		"TooLittlePadding":   {strings.TrimSuffix(text(34, base64.StdEncoding), "="), "not standard base64"},
		"StrayTrailingBits":  {"whsec_" + strings.Repeat("A", 42) + "B=", "not standard base64"},
		"LineBreakAtTheEnd":  {text(32, base64.StdEncoding) + "\n", "it contains white space"},
		"LineBreakWithin":    {text(32, base64.StdEncoding)[:20] + "\r\n" + text(32, base64.StdEncoding)[20:], "it contains white space"},
		"SpaceBeforeThePart": {"whsec_ " + text(32, base64.StdEncoding)[6:], "it contains white space"},
	}
	for name, c := range refused {
		t.Run("Refuses"+name, func(t *testing.T) {
			t.Parallel()
			secret, err := webhook.ParseSecret(c.text)
			wantError(t, err, webhook.ErrInvalidSecret)
			if !secret.IsZero() {
				t.Error("a secret is returned beside the error")
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %q, want it to say %q", err, c.says)
			}
			if encoded := strings.TrimPrefix(c.text, "whsec_"); len(encoded) > 8 && err != nil {
				for i := range len(encoded) - 8 {
					if strings.Contains(err.Error(), encoded[i:i+8]) {
						t.Fatalf("error %q shows a part of the secret", err)
					}
				}
			}
		})
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()

	t.Run("NewSecretHolds32BytesNeverTheSame", func(t *testing.T) {
		t.Parallel()
		first, second := webhook.NewSecret(), webhook.NewSecret()
		if n := len(first.Bytes()); n != 32 {
			t.Errorf("%d bytes, want 32", n)
		}
		if first.Equal(second) {
			t.Error("two new secrets are the same")
		}
	})

	t.Run("SurvivesTextAndBytes", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			key := rapid.SliceOfN(rapid.Byte(), 24, 64).Draw(t, "key")
			secret, err := webhook.SecretFromBytes(key)
			if err != nil {
				t.Fatal(err)
			}
			if again := mustParseSecret(t, secret.Reveal()); !again.Equal(secret) {
				t.Fatal("the secret's text is read as another secret")
			}
			if !bytes.Equal(secret.Bytes(), key) {
				t.Fatal("the secret's bytes are not the ones given")
			}
		})
	})

	t.Run("SecretFromBytesRefusesOtherLengths", func(t *testing.T) {
		t.Parallel()
		for _, n := range []int{0, 1, 23, 65, 1000} {
			_, err := webhook.SecretFromBytes(make([]byte, n))
			wantError(t, err, webhook.ErrInvalidSecret)
		}
	})

	t.Run("SharesNoMemoryWithItsCallers", func(t *testing.T) {
		t.Parallel()
		key := bytes.Repeat([]byte{1}, 32)
		secret, err := webhook.SecretFromBytes(key)
		if err != nil {
			t.Fatal(err)
		}
		before := secret.Reveal()
		key[0] = 2
		secret.Bytes()[1] = 2
		if secret.Reveal() != before {
			t.Error("a caller changed the secret")
		}
	})

	t.Run("ZeroHoldsNoKey", func(t *testing.T) {
		t.Parallel()
		var zero webhook.Secret
		if !zero.IsZero() || zero.Reveal() != "" || zero.Bytes() != nil {
			t.Errorf("the zero secret gives %q and %v", zero.Reveal(), zero.Bytes())
		}
		if zero.Equal(webhook.NewSecret()) || !zero.Equal(webhook.Secret{}) {
			t.Error("the zero secret equals a secret, or not itself")
		}
		if fmt.Sprint(zero) != "whsec_[redacted]" {
			t.Errorf("the zero secret prints as %v", zero)
		}
	})
}

// holder has a secret where fmt cannot call its methods.
type holder struct {
	Name   string
	secret webhook.Secret
}

func TestSecretNeverShows(t *testing.T) {
	t.Parallel()
	key := []byte("a key of readable characters: 40 bytes..")
	secret, err := webhook.SecretFromBytes(key)
	if err != nil {
		t.Fatal(err)
	}
	// Every form in which a printer could show the key or a part of it.
	leaks := []string{
		strings.TrimPrefix(secret.Reveal(), "whsec_")[:12],
		string(key[:6]), fmt.Sprintf("%x", key[:6]), fmt.Sprintf("%X", key[:6]), fmt.Sprintf("% x", key[:6]),
		strings.Trim(fmt.Sprint(key[:6]), "[]"), strings.Trim(fmt.Sprintf("%#v", key[:4]), "[]byte{}"),
	}
	check := func(t *testing.T, how, shown string) {
		t.Helper()
		for _, leak := range leaks {
			if strings.Contains(shown, leak) {
				t.Errorf("%s shows the key: %s", how, shown)
			}
		}
	}
	verbs := strings.Fields("%v %+v %#v %s %+s %#s %q %+q %#q %x %X %#x %d %b %o %c %U %e %t %10.3s %-8v %p %T %w %!")
	const redacted = "whsec_[redacted]"

	t.Run("InFmt", func(t *testing.T) {
		t.Parallel()
		for _, verb := range verbs {
			for name, value := range map[string]any{"Secret": secret, "*Secret": &secret} {
				shown := fmt.Sprintf(verb, value)
				check(t, verb+" of "+name, shown)
				if !strings.ContainsAny(verb, "pT!w") && shown != redacted {
					t.Errorf("%s of %s gives %q, want %q", verb, name, shown, redacted)
				}
			}
		}
	})

	t.Run("InFmtWithinOtherValues", func(t *testing.T) {
		t.Parallel()
		signer, err := webhook.NewSigner(secret)
		if err != nil {
			t.Fatal(err)
		}
		signer.AppendSignature(nil, "evt_1", 1, nil) // leaves a keyed state in its pool
		for _, value := range []any{
			holder{"h", secret}, &holder{"h", secret}, []webhook.Secret{secret}, []any{&secret},
			map[string]webhook.Secret{"k": secret}, signer, *signer, verifierAt(t, signedAt, secret),
		} {
			for _, verb := range verbs {
				check(t, fmt.Sprintf("%s of %T", verb, value), fmt.Sprintf(verb, value))
			}
		}
	})

	t.Run("InEncodings", func(t *testing.T) {
		t.Parallel()
		inJSON, err := json.Marshal(map[string]any{"s": secret, "p": &secret, "h": holder{"h", secret}})
		if err != nil {
			t.Fatal(err)
		}
		if want := `{"h":{"Name":"h"},"p":"whsec_[redacted]","s":"whsec_[redacted]"}`; string(inJSON) != want {
			t.Errorf("JSON is %s, want %s", inJSON, want)
		}
		inXML, err := xml.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		if want := "<Secret>whsec_[redacted]</Secret>"; string(inXML) != want {
			t.Errorf("XML is %s, want %s", inXML, want)
		}
	})

	t.Run("InSlog", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			out.Reset()
			slog.New(handler).With("with", secret).Info("m",
				"s", secret, "p", &secret, "h", holder{"h", secret}, "list", []webhook.Secret{secret})
			check(t, fmt.Sprintf("%T", handler), out.String())
			if n := strings.Count(out.String(), redacted); n != 4 {
				t.Errorf("%T redacts %d times, want 4: %s", handler, n, out.String())
			}
		}
		// Handlers other than these two rely on LogValue.
		if value := slog.AnyValue(secret).Resolve(); value.Kind() != slog.KindString || value.String() != redacted {
			t.Errorf("LogValue gives %v of kind %v", value, value.Kind())
		}
	})
}
