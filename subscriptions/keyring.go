package subscriptions

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/posthorn/posthorn/webhook"
)

// Keyring encrypts endpoints' secrets for the database and decrypts them. It is
// safe for concurrent use and shows nothing of its keys when printed.
type Keyring struct {
	aead tink.AEAD
}

// NewKeyset makes a keyset of one AES-256-GCM key, as Tink's JSON. Whoever has
// it can read every secret in the database.
func NewKeyset() (string, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return "", fmt.Errorf("make keyset: %w", err)
	}
	return writeKeyset(handle)
}

// RotateKeyset adds a new key to a keyset and makes it the one that encrypts.
// What was encrypted under the older keys stays readable.
func RotateKeyset(json string) (string, error) {
	handle, err := readKeyset(json)
	if err != nil {
		return "", err
	}
	manager := keyset.NewManagerFromHandle(handle)
	id, err := manager.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		return "", fmt.Errorf("rotate keyset: %w", err)
	}
	if err := manager.SetPrimary(id); err != nil {
		return "", fmt.Errorf("rotate keyset: %w", err)
	}
	if handle, err = manager.Handle(); err != nil {
		return "", fmt.Errorf("rotate keyset: %w", err)
	}
	return writeKeyset(handle)
}

// NewKeyring reads a Tink JSON keyset. The error never holds any of it.
func NewKeyring(json string) (*Keyring, error) {
	handle, err := readKeyset(json)
	if err != nil {
		return nil, err
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("the keyset holds no key for AEAD encryption")
	}
	return &Keyring{aead: primitive}, nil
}

func readKeyset(json string) (*keyset.Handle, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(strings.NewReader(json)))
	if err != nil {
		return nil, fmt.Errorf("the keyset is not a Tink JSON keyset, as `posthorn keyset create` makes it")
	}
	return handle, nil
}

func writeKeyset(handle *keyset.Handle) (string, error) {
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&buf)); err != nil {
		return "", fmt.Errorf("write keyset: %w", err)
	}
	return buf.String(), nil
}

// seal encrypts a secret for one endpoint; the id as associated data keeps the
// row from being copied to another endpoint.
func (k *Keyring) seal(id EndpointID, secret webhook.Secret) ([]byte, error) {
	uuid := id.UUID()
	ciphertext, err := k.aead.Encrypt(secret.Bytes(), uuid[:])
	if err != nil {
		return nil, fmt.Errorf("encrypt secret of %s: %w", id, err)
	}
	return ciphertext, nil
}

func (k *Keyring) open(id EndpointID, ciphertext []byte) (webhook.Secret, error) {
	uuid := id.UUID()
	key, err := k.aead.Decrypt(ciphertext, uuid[:])
	if err != nil {
		return webhook.Secret{}, fmt.Errorf("decrypt secret of %s: the keyset has not the key it was encrypted under", id)
	}
	return webhook.SecretFromBytes(key)
}
