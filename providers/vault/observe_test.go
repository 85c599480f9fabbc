package vault_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
)

func watched(t *testing.T, p *vault.Provider) (*kmsencrypted.Box, *kmsencrypted.Event) {
	t.Helper()
	last := new(kmsencrypted.Event)
	box, err := kmsencrypted.Config{
		Current:  1,
		Versions: map[int]kmsencrypted.Version{1: {Provider: p}},
		Observer: func(_ context.Context, e kmsencrypted.Event) { *last = e },
	}.Box()
	must(t, err)
	return box, last
}

// testObserver: the version of the key that was used is seen.
func testObserver(t *testing.T, e *engine) {
	e.newKey(t, "k", true)
	box, last := watched(t, e.provider(t, "k", false))
	ec := kmsencrypted.Context{"purpose": "test"}
	sees := func(doing string, err error, version string) {
		t.Helper()
		must(t, err)
		if last.Attempts != 1 || last.KeyVersion != version {
			t.Errorf("%s: %d attempts, version %q, want 1, %q", doing, last.Attempts, last.KeyVersion, version)
		}
	}
	column, err := box.Encrypt(t.Context(), []byte("x"), ec)
	sees("a wrap", err, "1")
	e.write(t, "keys/k/rotate", nil)
	_, err = box.Decrypt(t.Context(), column, ec)
	sees("an unwrap after a rotation", err, "1")
	_, err = box.Encrypt(t.Context(), []byte("x"), ec)
	sees("a wrap after a rotation", err, "2")
}

// TestObserverSeesAttempts of the official client.
func TestObserverSeesAttempts(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte(`{"data":{"ciphertext":"vault:v7:AAAA"}}`))
	}))
	t.Cleanup(server.Close)
	client, err := api.NewClient(&api.Config{Address: server.URL, HttpClient: &http.Client{Transport: &http.Transport{}},
		MaxRetries: 2, MinRetryWait: time.Millisecond, MaxRetryWait: time.Millisecond})
	must(t, err)
	p, err := vault.New(client, "vault/k", vault.Options{})
	must(t, err)
	box, last := watched(t, p)
	_, err = box.Encrypt(t.Context(), []byte("x"), kmsencrypted.Context{"purpose": "test"})
	must(t, err)
	if last.Attempts != 3 || last.KeyVersion != "7" {
		t.Errorf("an answer at the third attempt: %+v, want it to say so, and version 7", last)
	}
}
