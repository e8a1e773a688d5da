package webhook_test

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/posthorn/posthorn/webhook"
)

func TestSign(t *testing.T) {
	t.Parallel()
	secret := webhook.NewSecret()

	t.Run("GivesOneSignatureForEachSecretInOrder", func(t *testing.T) {
		t.Parallel()
		secrets := []webhook.Secret{secret, webhook.NewSecret(), webhook.NewSecret()}
		got, err := webhook.Sign("evt_1", signedAt, []byte("{}"), secrets...)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, s := range secrets {
			want = append(want, plainSignature(s.Bytes(), "evt_1", strconv.FormatInt(signedAt.Unix(), 10), []byte("{}")))
		}
		if got != strings.Join(want, " ") {
			t.Errorf("signature is %s, want %s", got, want)
		}
	})

	for name, c := range map[string]struct {
		id      string
		at      time.Time
		secrets []webhook.Secret
		want    error
	}{
		"EmptyID":      {"", signedAt, []webhook.Secret{secret}, webhook.ErrInvalidID},
		"DotInID":      {"evt.1", signedAt, []webhook.Secret{secret}, webhook.ErrInvalidID},
		"ZeroTime":     {"evt_1", time.Time{}, []webhook.Secret{secret}, webhook.ErrInvalidTimestamp},
		"Before1970":   {"evt_1", time.Unix(-1, 0), []webhook.Secret{secret}, webhook.ErrInvalidTimestamp},
		"NoSecret":     {"evt_1", signedAt, nil, webhook.ErrSecretCount},
		"SixSecrets":   {"evt_1", signedAt, slices.Repeat([]webhook.Secret{secret}, 6), webhook.ErrSecretCount},
		"ZeroSecret":   {"evt_1", signedAt, []webhook.Secret{{}}, webhook.ErrInvalidSecret},
		"AZeroAmongst": {"evt_1", signedAt, []webhook.Secret{secret, {}}, webhook.ErrInvalidSecret},
	} {
		t.Run("Refuses"+name, func(t *testing.T) {
			t.Parallel()
			signature, err := webhook.Sign(c.id, c.at, nil, c.secrets...)
			wantError(t, err, c.want)
			if signature != "" {
				t.Errorf("signature %s is returned beside the error", signature)
			}
		})
	}
}

func TestSigner(t *testing.T) {
	t.Parallel()

	t.Run("SignsPartsAsTheWholeBody", func(t *testing.T) {
		t.Parallel()
		secrets := []webhook.Secret{webhook.NewSecret(), webhook.NewSecret()}
		signer, err := webhook.NewSigner(secrets...)
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(t *rapid.T) {
			id := rapid.StringMatching(`[A-Za-z0-9_]{1,40}`).Draw(t, "id")
			unix := rapid.Int64Min(0).Draw(t, "unix")
			parts := rapid.SliceOfN(rapid.SliceOf(rapid.Byte()), 0, 4).Draw(t, "parts")
			want, err := webhook.Sign(id, time.Unix(unix, 0), bytes.Join(parts, nil), secrets...)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(signer.AppendSignature([]byte("before "), id, unix, parts...)); got != "before "+want {
				t.Fatalf("signature is %s, want %s", got, "before "+want)
			}
		})
	})

	t.Run("IsSafeForConcurrentUse", func(t *testing.T) {
		t.Parallel()
		secret := webhook.NewSecret()
		signer, err := webhook.NewSigner(secret)
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() {
				for i := range 200 {
					id, body := "evt_"+strconv.Itoa(worker), []byte(strconv.Itoa(i))
					want := plainSignature(secret.Bytes(), id, strconv.Itoa(i), body)
					if got := string(signer.AppendSignature(nil, id, int64(i), body)); got != want {
						t.Errorf("signature is %s, want %s", got, want)
						return
					}
				}
			})
		}
		group.Wait()
	})

	t.Run("KeepsItsSecretsWhenTheCallerChangesTheSlice", func(t *testing.T) {
		t.Parallel()
		secret := webhook.NewSecret()
		secrets := []webhook.Secret{secret}
		signer, err := webhook.NewSigner(secrets...)
		if err != nil {
			t.Fatal(err)
		}
		secrets[0] = webhook.Secret{}
		want := plainSignature(secret.Bytes(), "evt_1", "1", nil)
		if got := string(signer.AppendSignature(nil, "evt_1", 1)); got != want {
			t.Errorf("signature is %s, want %s", got, want)
		}
	})
}

func BenchmarkSigner(b *testing.B) {
	prefix, body, suffix := []byte(`{"type":"order.paid","data":`), bytes.Repeat([]byte("x"), 1024), []byte("}")
	for _, n := range []int{1, 2, webhook.MaxSecrets} {
		b.Run(strconv.Itoa(n)+"secrets", func(b *testing.B) {
			var secrets []webhook.Secret
			for range n {
				secrets = append(secrets, webhook.NewSecret())
			}
			signer, err := webhook.NewSigner(secrets...)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			b.RunParallel(func(pb *testing.PB) {
				buf := make([]byte, 0, 512)
				for pb.Next() {
					buf = signer.AppendSignature(buf[:0], "evt_01jgx5r8v3e6qs4w1n0b7c2d9f", 1_767_225_600, prefix, body, suffix)
				}
			})
		})
	}
}
