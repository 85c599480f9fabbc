package vault_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vaultserver"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
)

// testTokenFile runs on a real server: an agent writes a new token into its sink,
// and the old one ends.
func testTokenFile(t *testing.T, e *engine) {
	e.newKey(t, "k", true)
	sink := filepath.Join(t.TempDir(), "token")
	renew := func() (token string) {
		created, err := e.root.Auth().Token().CreateWithContext(t.Context(), &api.TokenCreateRequest{Policies: []string{e.mount}, TTL: "10m"})
		must(t, err)
		must(t, os.WriteFile(sink, []byte(created.Auth.ClientToken+"\n"), 0o600))
		return created.Auth.ClientToken
	}
	revoke := func(token string) {
		must(t, e.root.Auth().Token().RevokeTreeWithContext(t.Context(), token))
	}
	token := renew()
	p, err := vault.New(e.server.Client(t, token), "vault/k", vault.Options{Mount: e.mount, Login: vault.TokenFile(sink)})
	must(t, err)
	ciphertext, err := p.Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	for range 3 {
		revoke(token)
		_, err = p.Decrypt(t.Context(), ciphertext, bind(t, user))
		fails(t, err, kmsencrypted.ErrDenied)
		token = renew()
		errs := make([]error, 16)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() { _, errs[i] = p.Decrypt(t.Context(), ciphertext, bind(t, user)) })
		}
		all.Wait()
		must(t, errors.Join(errs...))
		results, err := p.DecryptBatch(t.Context(), []kmsencrypted.Wrapped{{Ciphertext: ciphertext, Context: bind(t, user)}})
		must(t, err)
		must(t, results[0].Err)
		must(t, p.Probe(t.Context()))
	}
}

// testHomeToken opens a key with the token that "vault login" keeps.
func testHomeToken(t *testing.T, server vaultserver.Server) {
	e := newEngine(t, server)
	e.newKey(t, "k", true)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("VAULT_ADDR", server.Addr)
	t.Setenv("VAULT_TOKEN", "")
	t.Setenv("VAULT_NAMESPACE", "")
	_, err := vault.Open(t.Context(), "vault/k", vault.Options{Mount: e.mount})
	fails(t, err, kmsencrypted.ErrDenied)
	must(t, os.WriteFile(filepath.Join(home, ".vault-token"), []byte(e.token), 0o600))
	_, err = vault.Open(t.Context(), "vault/k", vault.Options{Mount: e.mount})
	must(t, err)
	_, err = vault.Open(t.Context(), "vault/k", vault.Options{Mount: e.mount, Login: vault.TokenFile(filepath.Join(home, "none"))})
	fails(t, err, kmsencrypted.ErrDenied)
}

// doorkeeper admits one token at a time.
type doorkeeper struct {
	admits atomic.Value
}

func (d *doorkeeper) RoundTrip(r *http.Request) (*http.Response, error) {
	return transport(func(string, map[string]any) (int, string) {
		if r.Header.Get("X-Vault-Token") != d.admits.Load() {
			return 403, `{"errors":["permission denied"]}`
		}
		return 200, `{"data":{"ciphertext":"vault:v1:YWJj"}}`
	}).RoundTrip(r)
}

func (d *doorkeeper) provider(t *testing.T, login func(context.Context) (string, error)) *vault.Provider {
	client, err := api.NewClient(&api.Config{Address: "http://vault.test", HttpClient: &http.Client{Transport: d}})
	must(t, err)
	client.ClearNamespace()
	client.SetToken("first")
	p, err := vault.New(client, "vault/k", vault.Options{Login: login})
	must(t, err)
	return p
}

// Requests that are refused together log in once. A server that refuses a valid
// token, because a right is missing, is not flooded with logins.
func TestLoginsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doorkeeper
		d.admits.Store("token 1")
		var logins atomic.Int64
		p := d.provider(t, func(context.Context) (string, error) {
			time.Sleep(time.Second)
			return fmt.Sprint("token ", logins.Add(1)), nil
		})
		encrypt := func() error {
			_, err := p.Encrypt(t.Context(), secret, bind(t, user))
			return err
		}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if err := encrypt(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := logins.Load(); n != 1 {
			t.Errorf("%d logins for 100 refused requests, want 1", n)
		}

		d.admits.Store("nobody")
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			fails(t, encrypt(), kmsencrypted.ErrDenied)
		}
		if n := logins.Load(); n > 1+12 {
			t.Errorf("%d logins in a minute of refusals, want at most 12", n-1)
		}
	})
}

// What is known about a failed login decides whether it is worth another attempt.
func TestLoginFails(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancel(t.Context())
	end()
	for name, c := range map[string]struct {
		ctx   context.Context
		login error
		want  error
	}{
		"refused":      {t.Context(), &api.ResponseError{StatusCode: 400, Errors: []string{"invalid role or secret ID"}}, kmsencrypted.ErrDenied},
		"out of order": {t.Context(), &api.ResponseError{StatusCode: 503}, kmsencrypted.ErrUnavailable},
		"throttled":    {t.Context(), &api.ResponseError{StatusCode: 429}, kmsencrypted.ErrThrottled},
		"no file":      {t.Context(), &fs.PathError{Op: "open", Path: "sink", Err: syscall.ENOENT}, kmsencrypted.ErrDenied},
		"cancelled":    {ended, errors.New("not called"), context.Canceled},
	} {
		var d doorkeeper
		p := d.provider(t, func(context.Context) (string, error) { return "", c.login })
		_, err := p.Encrypt(c.ctx, secret, bind(t, user))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if strings.Contains(fmt.Sprint(err), "first") {
			t.Errorf("%s: the error holds the token: %v", name, err)
		}
	}
}
