package webhook

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The headers of a signed webhook. They are for Get, Set, Add and Values of
// [net/http.Header], which put a name into canonical form; do not index the map
// with them.
const (
	HeaderID        = "webhook-id"        // the event's id, the same on every attempt
	HeaderTimestamp = "webhook-timestamp" // when it was signed, Unix seconds
	HeaderSignature = "webhook-signature" // "v1,<base64>", separated by spaces
)

// signatureVersion marks HMAC-SHA256, the one version this package knows.
const signatureVersion = "v1,"

var (
	// ErrInvalidID reports an event id that is empty or contains a '.', which
	// would let one signed text be read as two different messages.
	ErrInvalidID = errors.New("webhook: invalid id")

	// ErrInvalidTimestamp reports a time before 1970, or a webhook-timestamp
	// that is not a plain decimal number of seconds since then.
	ErrInvalidTimestamp = errors.New("webhook: invalid timestamp")
)

// Sign returns the webhook-signature header for a message: "v1,<base64>" for
// each secret, in order, separated by spaces. The header webhook-id is to be id
// and webhook-timestamp at.Unix(); fractions of a second are not signed.
//
// It returns an error for which errors.Is is true of
//   - [ErrInvalidID] if id is empty or contains a '.',
//   - [ErrInvalidTimestamp] if at is before 1970,
//   - [ErrSecretCount] if there is no secret or more than [MaxSecrets],
//   - [ErrInvalidSecret] if a secret is the zero Secret.
func Sign(id string, at time.Time, body []byte, secrets ...Secret) (string, error) {
	signer, err := NewSigner(secrets...)
	if err != nil {
		return "", err
	}
	if err := checkID(id); err != nil {
		return "", err
	}
	unix := at.Unix()
	if unix < 0 {
		return "", fmt.Errorf("%w: it is before 1970", ErrInvalidTimestamp)
	}
	return string(signer.AppendSignature(nil, id, unix, body)), nil
}

// Signer signs many messages with the same secrets, allocating nothing. It may
// be used by several goroutines at once. Make one with [NewSigner].
type Signer struct {
	keys *keyring
}

// NewSigner returns a Signer that signs with every one of secrets, in order. It
// returns an error for which errors.Is is true of [ErrSecretCount] if there is
// no secret or more than [MaxSecrets], and of [ErrInvalidSecret] if one is the
// zero Secret.
func NewSigner(secrets ...Secret) (*Signer, error) {
	keys, err := newKeyring(secrets)
	if err != nil {
		return nil, err
	}
	return &Signer{keys: keys}, nil
}

// AppendSignature appends the webhook-signature header, as [Sign] describes it,
// to dst and returns the extended slice. The body is the concatenation of the
// parts given, so that a caller with an envelope around a payload need not join
// them. The header webhook-timestamp is to be unix, in seconds.
//
// It checks nothing: id must be non-empty and without a '.', and unix not
// negative, or no receiver accepts the message.
func (s *Signer) AppendSignature(dst []byte, id string, unix int64, body ...[]byte) []byte {
	m := s.keys.get()
	defer s.keys.put(m)
	m.begin(id, unix)
	for i := range m.keyed {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, signatureVersion...)
		dst = m.appendMAC(dst, i, body...)
	}
	return dst
}

// checkID is the rule for ids on both sides.
func checkID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidID)
	case strings.Contains(id, "."):
		return fmt.Errorf("%w: it contains a '.'", ErrInvalidID)
	}
	return nil
}
