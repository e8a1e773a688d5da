package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"sync"
)

// MaxSecrets is how many secrets a [Signer] or a [Verifier] holds at most: room
// for several rotations to overlap, and a bound on the work for one message.
const MaxSecrets = 5

// ErrSecretCount reports that no secret was given, or more than [MaxSecrets].
var ErrSecretCount = errors.New("webhook: wrong number of secrets")

// macLen is the length of one signature without its version: a padded base64
// HMAC-SHA256.
const macLen = (sha256.Size + 2) / 3 * 4

// keyring computes signatures under a fixed list of secrets. Keying an HMAC
// costs as much as signing a short message and allocates, so keyed states are
// kept and used again.
type keyring struct {
	pool sync.Pool // of *macs
}

// newKeyring wants one to MaxSecrets secrets, none of them zero.
func newKeyring(secrets []Secret) (*keyring, error) {
	if n := len(secrets); n == 0 || n > MaxSecrets {
		return nil, fmt.Errorf("%w: %d given; it takes 1 to %d", ErrSecretCount, n, MaxSecrets)
	}
	if i := slices.IndexFunc(secrets, Secret.IsZero); i >= 0 {
		return nil, fmt.Errorf("%w: number %d of %d is the zero Secret", ErrInvalidSecret, i+1, len(secrets))
	}
	secrets = slices.Clone(secrets)
	return &keyring{pool: sync.Pool{New: func() any { return newMACs(secrets) }}}, nil
}

func (k *keyring) get() *macs  { return k.pool.Get().(*macs) }
func (k *keyring) put(m *macs) { k.pool.Put(m) }

// macs is the working state for one message at a time: a keyed HMAC for each
// secret, and scratch space that would otherwise be allocated per message.
type macs struct {
	keyed  []hash.Hash
	prefix []byte // "id.timestamp." of the message at hand
	sum    [sha256.Size]byte
}

func newMACs(secrets []Secret) *macs {
	m := &macs{}
	for _, secret := range secrets {
		m.keyed = append(m.keyed, hmac.New(sha256.New, secret.bytes()))
	}
	return m
}

// begin sets the message's id and time for the calls of appendMAC that follow.
func (m *macs) begin(id string, unix int64) {
	m.prefix = append(append(m.prefix[:0], id...), '.')
	m.prefix = append(strconv.AppendInt(m.prefix, unix, 10), '.')
}

// appendMAC appends the base64 signature, macLen bytes, under the i-th secret.
func (m *macs) appendMAC(dst []byte, i int, body ...[]byte) []byte {
	h := m.keyed[i]
	h.Reset()
	h.Write(m.prefix)
	for _, part := range body {
		h.Write(part)
	}
	return base64.StdEncoding.AppendEncode(dst, h.Sum(m.sum[:0]))
}
