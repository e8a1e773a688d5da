//go:build !race

// The race detector makes sync.Pool drop values at random, so what is counted
// under it says nothing.

package webhook_test

import (
	"testing"

	"github.com/posthorn/posthorn/webhook"
)

// It is not parallel: allocations are counted for the whole process.
func TestSignerAllocatesNothing(t *testing.T) {
	signer, err := webhook.NewSigner(webhook.NewSecret(), webhook.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	buf, prefix, body := make([]byte, 0, 512), []byte(`{"data":`), make([]byte, 1024)
	if n := testing.AllocsPerRun(1000, func() {
		buf = signer.AppendSignature(buf[:0], "evt_01jgx5r8v3e6qs4w1n0b7c2d9f", 1_767_225_600, prefix, body)
	}); n != 0 {
		t.Errorf("%v allocations for a signature, want 0", n)
	}
}
