package webhook

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// DefaultTolerance is how far a timestamp may lie from the receiver's clock.
	DefaultTolerance = 5 * time.Minute

	// maxSignatures bounds the entries of one webhook-signature header that are
	// considered. Five secrets in two versions make ten.
	maxSignatures = 32
)

// The reasons for which [Verifier.Verify] refuses a message, besides
// [ErrInvalidID] and [ErrInvalidTimestamp].
var (
	// ErrMissingHeader reports that one of the three headers is absent.
	ErrMissingHeader = errors.New("webhook: missing header")

	// ErrRepeatedHeader reports that one of the three headers occurs more than
	// once, so that two readers could disagree on which counts.
	ErrRepeatedHeader = errors.New("webhook: repeated header")

	// ErrTimestampTooOld reports a message signed longer ago than the tolerance:
	// a captured request sent again, or a receiver's clock that is fast.
	ErrTimestampTooOld = errors.New("webhook: timestamp too old")

	// ErrTimestampTooNew reports a message signed further in the future than the
	// tolerance: a receiver's clock that is slow.
	ErrTimestampTooNew = errors.New("webhook: timestamp too new")

	// ErrNoMatchingSignature reports that no signature fits the message under
	// any of the secrets: a wrong secret, a changed body, or a forgery.
	ErrNoMatchingSignature = errors.New("webhook: no matching signature")
)

// Verifier decides whether a message was signed with one of its secrets. Make
// one with [NewVerifier] and set its fields, if at all, before its first use;
// from then on several goroutines may use it at once.
type Verifier struct {
	// Tolerance bounds how far a message's timestamp may lie from the clock, in
	// the past or in the future. Both are counted in whole seconds, and exactly
	// Tolerance is accepted. Zero or less means DefaultTolerance, 5 minutes.
	Tolerance time.Duration

	// MaxBodyBytes bounds the bodies that Middleware reads. Zero or less means
	// DefaultMaxBodyBytes, 1 MiB.
	MaxBodyBytes int64

	// Now is the clock. Nil means time.Now.
	Now func() time.Time

	keys *keyring
}

// NewVerifier returns a Verifier that accepts a message signed with any one of
// secrets: the current one, and during a rotation the next or the last one too.
// It returns an error for which errors.Is is true of [ErrSecretCount] if there
// is no secret or more than [MaxSecrets], and of [ErrInvalidSecret] if one is
// the zero Secret.
func NewVerifier(secrets ...Secret) (*Verifier, error) {
	keys, err := newKeyring(secrets)
	if err != nil {
		return nil, err
	}
	return &Verifier{keys: keys}, nil
}

// Verify returns nil if body, byte for byte as it was received, carries in
// header a recent timestamp and a signature that fits one of the secrets. Of
// the signatures the first 32 are considered; those of another version than v1
// and malformed ones count as no match. How long it takes does not depend on
// which signature or secret fits, nor on how nearly one does.
//
// Otherwise it returns an error for which errors.Is is true of one of
//   - [ErrMissingHeader] or [ErrRepeatedHeader],
//   - [ErrInvalidID] if webhook-id is empty or contains a '.',
//   - [ErrInvalidTimestamp], [ErrTimestampTooOld] or [ErrTimestampTooNew],
//   - [ErrNoMatchingSignature], also if there is no signature at all,
//   - [ErrSecretCount] if v was not made by [NewVerifier].
//
// The error holds no secret and may be shown to the sender. A verified message
// can still be a repeat: remember the ids you have handled.
func (v *Verifier) Verify(header http.Header, body []byte) error {
	claim, err := v.readClaim(header)
	if err != nil {
		return err
	}
	return v.verifyClaim(claim, body)
}

// claim is what the three headers say, checked as far as it can be without the
// body.
type claim struct {
	id         string
	unix       int64
	signatures string
}

// readClaim makes every check that needs neither the body nor a secret, so that
// a request that fails them costs no more than its headers.
func (v *Verifier) readClaim(header http.Header) (claim, error) {
	var values [3]string
	for i, name := range [...]string{HeaderID, HeaderTimestamp, HeaderSignature} {
		switch all := header.Values(name); len(all) {
		case 0:
			return claim{}, fmt.Errorf("%w: %s", ErrMissingHeader, name)
		case 1:
			values[i] = all[0]
		default:
			return claim{}, fmt.Errorf("%w: %s", ErrRepeatedHeader, name)
		}
	}
	if err := checkID(values[0]); err != nil {
		return claim{}, err
	}
	unix, err := parseTimestamp(values[1])
	if err != nil {
		return claim{}, err
	}
	if err := v.checkAge(unix); err != nil {
		return claim{}, err
	}
	return claim{id: values[0], unix: unix, signatures: values[2]}, nil
}

// parseTimestamp accepts only the form in which a time is signed, so that the
// number stands for the header's text: no sign, no leading zero, no fraction.
func parseTimestamp(text string) (int64, error) {
	unix, err := strconv.ParseInt(text, 10, 64)
	if err != nil || unix < 0 || strconv.FormatInt(unix, 10) != text {
		return 0, fmt.Errorf("%w: it must be a number of seconds since 1970", ErrInvalidTimestamp)
	}
	return unix, nil
}

func (v *Verifier) checkAge(unix int64) error {
	tolerance, now := DefaultTolerance, time.Now
	if v.Tolerance > 0 {
		tolerance = v.Tolerance
	}
	if v.Now != nil {
		now = v.Now
	}
	limit := int64(tolerance / time.Second)
	switch age := now().Unix() - unix; {
	case age > limit:
		return fmt.Errorf("%w: %d s behind the clock; the tolerance is %d s", ErrTimestampTooOld, age, limit)
	case age < -limit:
		return fmt.Errorf("%w: %d s ahead of the clock; the tolerance is %d s", ErrTimestampTooNew, -age, limit)
	}
	return nil
}

// verifyClaim compares every signature under every secret, whether one has
// matched already or not: stopping would tell by the time taken which did.
func (v *Verifier) verifyClaim(c claim, body []byte) error {
	if v.keys == nil {
		return fmt.Errorf("%w: the Verifier was not made by NewVerifier", ErrSecretCount)
	}
	m := v.keys.get()
	defer v.keys.put(m)
	m.begin(c.id, c.unix)
	var expected [MaxSecrets][macLen]byte
	for i := range m.keyed {
		m.appendMAC(expected[i][:0], i, body)
	}

	considered, matches := 0, 0
	for entry := range strings.FieldsSeq(c.signatures) {
		if considered++; considered > maxSignatures {
			break
		}
		// The text is compared, not the decoded bytes: of the several texts that
		// a lenient decoder takes for one signature only one was sent.
		mac, known := strings.CutPrefix(entry, signatureVersion)
		if !known || len(mac) != macLen {
			continue
		}
		var given [macLen]byte
		copy(given[:], mac)
		for i := range m.keyed {
			matches |= subtle.ConstantTimeCompare(given[:], expected[i][:])
		}
	}
	if matches == 0 {
		return ErrNoMatchingSignature
	}
	return nil
}
