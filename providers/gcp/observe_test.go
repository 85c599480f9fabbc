package gcp_test

import (
	"context"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/gcpkms"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
)

// TestObserver: all attempts are seen, and whether a data key is under the newest
// version of the key.
func TestObserver(t *testing.T) {
	t.Parallel()
	s := start(t)
	var last kmsencrypted.Event
	box, err := kmsencrypted.Config{
		Current:  1,
		Versions: map[int]kmsencrypted.Version{1: {Provider: open(t, s, keyName, gcp.Options{})}},
		Observer: func(_ context.Context, e kmsencrypted.Event) { last = e },
	}.Box()
	must(t, err)
	ec := kmsencrypted.Context{"purpose": "test"}
	sees := func(doing string, err error, attempts int, version string) {
		t.Helper()
		must(t, err)
		if last.Attempts != attempts || last.KeyVersion != version {
			t.Errorf("%s: %d attempts, version %q, want %d, %q", doing, last.Attempts, last.KeyVersion, attempts, version)
		}
	}
	s.Inject(gcpkms.Fault{Code: codes.ResourceExhausted, Times: 2})
	column, err := box.Encrypt(t.Context(), []byte("x"), ec)
	sees("a wrap that was throttled twice", err, 3, "1")
	s.Inject(gcpkms.Fault{CorruptAnswer: true, Times: 1})
	_, err = box.Decrypt(t.Context(), column, ec)
	sees("an unwrap that was damaged once", err, 2, "primary")

	client, err := s.Client(t.Context())
	must(t, err)
	t.Cleanup(func() { client.Close() })
	_, err = client.CreateCryptoKeyVersion(t.Context(), &kmspb.CreateCryptoKeyVersionRequest{Parent: keyName})
	must(t, err)
	_, err = client.UpdateCryptoKeyPrimaryVersion(t.Context(), &kmspb.UpdateCryptoKeyPrimaryVersionRequest{Name: keyName, CryptoKeyVersionId: "2"})
	must(t, err)
	_, err = box.Decrypt(t.Context(), column, ec)
	sees("an unwrap after a rotation", err, 1, "not primary")
	_, err = box.Encrypt(t.Context(), []byte("x"), ec)
	sees("a wrap after a rotation", err, 1, "2")
}
