package main

import (
	"errors"
	"fmt"

	"github.com/posthorn/posthorn/subscriptions"
)

// keysetCommand is posthorn keyset.
type keysetCommand struct {
	Create keysetCreate `cmd:"" help:"Print a new keyset, for POSTHORN_ENCRYPTION_KEYSET. Whoever has it can read every secret."`
	Rotate keysetRotate `cmd:"" help:"Print the keyset with a new key, which encrypts from now on; what the older ones encrypted stays readable."`
}

type keysetCreate struct{}

// Run implements the command.
func (keysetCreate) Run(s *streams) error {
	json, err := subscriptions.NewKeyset()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, json)
	return err
}

type keysetRotate struct {
	EncryptionKeyset secret `env:"POSTHORN_ENCRYPTION_KEYSET" placeholder:"JSON" help:"The keyset to rotate. Use the variable: other users can see a command line."`
}

// Run implements the command.
func (c *keysetRotate) Run(s *streams) error {
	if c.EncryptionKeyset == "" {
		return errors.New("POSTHORN_ENCRYPTION_KEYSET is not set: it holds the keyset to rotate")
	}
	json, err := subscriptions.RotateKeyset(string(c.EncryptionKeyset))
	if err != nil {
		return fmt.Errorf("POSTHORN_ENCRYPTION_KEYSET: %w", err)
	}
	_, err = fmt.Fprintln(s.out, json)
	return err
}
