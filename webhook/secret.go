package webhook

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

const (
	// MinSecretBytes is a secret's least length, by the Standard Webhooks
	// specification.
	MinSecretBytes = 24
	// MaxSecretBytes is its greatest.
	MaxSecretBytes = 64

	newSecretBytes = 32
	secretPrefix   = "whsec_"
	redacted       = secretPrefix + "[redacted]"
)

// ErrInvalidSecret reports a secret that cannot be used: text that is not
// "whsec_" and base64, a length out of bounds, or the zero [Secret]. An error
// that wraps it never contains the secret.
var ErrInvalidSecret = errors.New("webhook: invalid secret")

// Secret is the key that a sender and a receiver share. However it is printed,
// logged or marshalled, alone or inside another value, it shows only
// "whsec_[redacted]" or nothing; [Secret.Reveal] and [Secret.Bytes] alone give
// it away.
//
// The zero Secret holds no key and cannot sign or verify. A Secret never
// changes, so it may be copied and used by several goroutines at once. Compare
// two with [Secret.Equal].
type Secret struct {
	// key is a closure because fmt ignores methods on unexported fields and
	// dumps their bytes; no printer that works by reflection sees into a func.
	key func() []byte
}

// NewSecret returns a new secret of 32 random bytes.
func NewSecret() Secret {
	key := make([]byte, newSecretBytes)
	_, _ = rand.Read(key) // never fails: it ends the program instead
	return newSecret(key)
}

// ParseSecret reads a secret as [Secret.Reveal] writes it: "whsec_" and the
// standard base64, padded or not, of 24 to 64 bytes. It returns an error for
// which errors.Is(err, ErrInvalidSecret) is true for anything else.
func ParseSecret(text string) (Secret, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return Secret{}, fmt.Errorf("%w: it must begin with %q", ErrInvalidSecret, secretPrefix)
	}
	// The decoder would skip line breaks; a stray one means a bad copy.
	if strings.ContainsAny(encoded, " \t\r\n") {
		return Secret{}, fmt.Errorf("%w: it contains white space", ErrInvalidSecret)
	}
	encoding := base64.RawStdEncoding
	if strings.HasSuffix(encoded, "=") {
		encoding = base64.StdEncoding
	}
	key, err := encoding.Strict().DecodeString(encoded)
	if err != nil {
		return Secret{}, fmt.Errorf("%w: what follows %q is not standard base64", ErrInvalidSecret, secretPrefix)
	}
	return secretOwning(key)
}

// SecretFromBytes returns the secret whose key is a copy of key, which must be
// 24 to 64 bytes long. It returns an error for which errors.Is(err,
// ErrInvalidSecret) is true for any other length.
func SecretFromBytes(key []byte) (Secret, error) {
	return secretOwning(bytes.Clone(key))
}

// secretOwning is SecretFromBytes without the copy: key now belongs to the
// secret.
func secretOwning(key []byte) (Secret, error) {
	if n := len(key); n < MinSecretBytes || n > MaxSecretBytes {
		return Secret{}, fmt.Errorf("%w: it holds %d bytes; it must hold %d to %d",
			ErrInvalidSecret, n, MinSecretBytes, MaxSecretBytes)
	}
	return newSecret(key), nil
}

func newSecret(key []byte) Secret {
	return Secret{key: func() []byte { return key }}
}

// bytes gives the key itself, not to be changed, or nil for the zero Secret.
func (s Secret) bytes() []byte {
	if s.key == nil {
		return nil
	}
	return s.key()
}

// Reveal gives the secret as text, "whsec_" and padded base64: for its owner,
// once. The zero Secret gives "".
func (s Secret) Reveal() string {
	if s.IsZero() {
		return ""
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(s.bytes())
}

// Bytes gives a copy of the key, to be encrypted or stored. The zero Secret
// gives nil.
func (s Secret) Bytes() []byte { return bytes.Clone(s.bytes()) }

// IsZero reports whether s is the zero Secret, which holds no key.
func (s Secret) IsZero() bool { return s.key == nil }

// Equal reports whether s and other hold the same key. Its time does not
// depend on where two keys of the same length differ.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare(s.bytes(), other.bytes()) == 1
}

// String gives "whsec_[redacted]".
func (s Secret) String() string { return redacted }

// GoString gives "whsec_[redacted]".
func (s Secret) GoString() string { return redacted }

// Format writes "whsec_[redacted]" whatever the verb and flags.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText gives "whsec_[redacted]", so that a secret does not leave in a
// text encoding by accident. There is no UnmarshalText: use [ParseSecret].
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON gives the JSON string "whsec_[redacted]".
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue gives "whsec_[redacted]" to log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
