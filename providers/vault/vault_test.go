package vault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vaultserver"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
)

var (
	secret = []byte("32 bytes that no error may hold!")
	user   = kmsencrypted.Context{"model_name": "User", "model_id": 123}
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fails(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error = %v, want %v", err, want)
	}
}

func bind(t *testing.T, ec kmsencrypted.EncryptionContext) kmsencrypted.BoundContext {
	t.Helper()
	bound, err := kmsencrypted.Bind(ec)
	must(t, err)
	return bound
}

// engine is a transit engine of its own on a real server, with a token that may
// do what a policy of its own says.
type engine struct {
	root   *api.Client
	server vaultserver.Server
	mount  string
	token  string
}

// capabilities that a program of kms_encrypted's users has, and one more: with
// create a server would make missing keys.
var allowed = map[string]string{
	"encrypt/*": `["create", "update"]`, "decrypt/*": `["update"]`, "rewrap/*": `["update"]`, "keys/*": `["read"]`,
}

var engines atomic.Int64

func newEngine(t *testing.T, server vaultserver.Server) *engine {
	t.Helper()
	e := &engine{
		root:   server.Client(t, server.Token),
		server: server,
		mount:  fmt.Sprintf("transit-test-%d-%d", os.Getpid(), engines.Add(1)),
	}
	must(t, e.root.Sys().MountWithContext(t.Context(), e.mount, &api.MountInput{Type: "transit"}))
	t.Cleanup(func() { e.root.Sys().UnmountWithContext(context.Background(), e.mount) })
	e.setPolicy(t, allowed)
	created, err := e.root.Auth().Token().CreateWithContext(t.Context(), &api.TokenCreateRequest{Policies: []string{e.mount}, TTL: "10m"})
	must(t, err)
	e.token = created.Auth.ClientToken
	return e
}

func (e *engine) setPolicy(t *testing.T, capabilities map[string]string) {
	t.Helper()
	var rules strings.Builder
	for path, list := range capabilities {
		fmt.Fprintf(&rules, "path %q { capabilities = %s }\n", e.mount+"/"+path, list)
	}
	must(t, e.root.Sys().PutPolicyWithContext(t.Context(), e.mount, rules.String()))
}

func (e *engine) deny(path string) func(*testing.T) {
	return func(t *testing.T) {
		rest := make(map[string]string)
		for allowed, list := range allowed {
			if allowed != path {
				rest[allowed] = list
			}
		}
		e.setPolicy(t, rest)
	}
}

func (e *engine) write(t *testing.T, path string, body map[string]any) {
	t.Helper()
	_, err := e.root.Logical().WriteWithContext(t.Context(), e.mount+"/"+path, body)
	must(t, err)
}

func (e *engine) newKey(t *testing.T, name string, derived bool) {
	t.Helper()
	e.write(t, "keys/"+name, map[string]any{"derived": derived})
}

func (e *engine) provider(t *testing.T, name string, notDerived bool) *vault.Provider {
	t.Helper()
	p, err := vault.New(e.server.Client(t, e.token), "vault/"+name, vault.Options{Mount: e.mount, NotDerived: notDerived})
	must(t, err)
	return p
}

// throttle uses up a rate-limit quota for the engine.
func (e *engine) throttle(t *testing.T) {
	path := "sys/quotas/rate-limit/" + e.mount
	_, err := e.root.Logical().WriteWithContext(t.Context(), path, map[string]any{"path": e.mount + "/", "rate": 1, "interval": "1h"})
	must(t, err)
	t.Cleanup(func() { e.root.Logical().DeleteWithContext(context.Background(), path) })
	e.root.Logical().ReadWithContext(t.Context(), e.mount+"/keys/none")
}

// gate is a transport that can be closed.
type gate struct {
	http.RoundTripper
	hang, interrupt atomic.Bool
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case g.hang.Load():
		<-r.Context().Done()
		return nil, r.Context().Err()
	case g.interrupt.Load():
		return nil, io.ErrUnexpectedEOF
	}
	return g.RoundTripper.RoundTrip(r)
}

// TestVault runs everything that needs a server on one.
func TestVault(t *testing.T) {
	server := vaultserver.Start(t)
	// Before the others: these set the environment.
	t.Run("open", func(t *testing.T) { testOpen(t, server) })
	t.Run("home token", func(t *testing.T) { testHomeToken(t, server) })
	for _, derived := range []bool{true, false} {
		t.Run(fmt.Sprintf("derived %t", derived), func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, providertest.Harness{
				NeedsContext: derived,
				Open:         func(t *testing.T) providertest.Key { return openKey(t, server, derived) },
				Lacks:        map[string]string{"Disable": "the transit engine has no such state; testMinDecryptionVersion tests what it has"},
			})
		})
	}
	for name, test := range map[string]func(*testing.T, *engine){
		"probe":                  testProbe,
		"makes no key":           testMakesNoKey,
		"min_decryption_version": testMinDecryptionVersion,
		"rewrap batch":           testRewrapBatch,
		"rewrap refuses":         testRewrapRefuses,
		"context hash":           testContextHash,
		"expired token":          testExpiredToken,
		"token file":             testTokenFile,
		"page with bad records":  testPageWithBadRecords,
		"rewrap of a page":       testRewrapPage,
		"least privilege":        testLeastPrivilege,
		"login":                  testLogin,
		"observer":               testObserver,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newEngine(t, server))
		})
	}
}

func openKey(t *testing.T, server vaultserver.Server, derived bool) providertest.Key {
	e := newEngine(t, server)
	e.newKey(t, "mine", derived)
	e.newKey(t, "other", derived)
	config := api.DefaultConfig()
	config.Address, config.MaxRetries = server.Addr, 0
	gate := &gate{RoundTripper: config.HttpClient.Transport}
	config.HttpClient.Transport = gate
	client, err := api.NewClient(config)
	must(t, err)
	client.SetToken(e.token)
	p, err := vault.New(client, "vault/mine", vault.Options{Mount: e.mount, NotDerived: !derived})
	must(t, err)
	return providertest.Key{
		Provider:    p,
		Other:       e.provider(t, "other", !derived),
		Missing:     e.provider(t, "missing", !derived),
		Rotate:      func(t *testing.T) { e.write(t, "keys/mine/rotate", nil) },
		DenyEncrypt: e.deny("encrypt/*"),
		DenyDecrypt: e.deny("decrypt/*"),
		Throttle:    e.throttle,
		Interrupt:   func(*testing.T) { gate.interrupt.Store(true) },
		Hang:        func(*testing.T) { gate.hang.Store(true) },
	}
}

func encrypt(t *testing.T, p *vault.Provider) []byte {
	t.Helper()
	ciphertext, err := p.Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	return ciphertext
}

// testProbe: what the server can tell about a key before it is used.
func testProbe(t *testing.T, e *engine) {
	e.newKey(t, "derived", true)
	e.newKey(t, "plain", false)
	e.write(t, "keys/signing", map[string]any{"type": "ed25519"})
	for _, tt := range []struct {
		name       string
		notDerived bool
		want       error
	}{
		{"derived", false, nil},
		{"plain", true, nil},
		{"plain", false, kmsencrypted.ErrConfig},
		{"derived", true, kmsencrypted.ErrConfig},
		{"signing", false, kmsencrypted.ErrKeyUnusable},
		{"missing", false, kmsencrypted.ErrKeyUnusable},
	} {
		if err := e.provider(t, tt.name, tt.notDerived).Probe(t.Context()); !errors.Is(err, tt.want) {
			t.Errorf("Probe of %s (NotDerived %t) = %v, want %v", tt.name, tt.notDerived, err, tt.want)
		}
	}
	e.deny("keys/*")(t)
	fails(t, e.provider(t, "derived", false).Probe(t.Context()), kmsencrypted.ErrDenied)
	e.mount = "nowhere"
	e.token = e.server.Token
	fails(t, e.provider(t, "derived", false).Probe(t.Context()), kmsencrypted.ErrKeyUnusable)
}

// testMakesNoKey: neither a single call nor a batch leaves a key behind,
// although the token may create one.
func testMakesNoKey(t *testing.T, e *engine) {
	p := e.provider(t, "misspelt", false)
	_, err := p.Encrypt(t.Context(), secret, bind(t, user))
	fails(t, err, kmsencrypted.ErrKeyUnusable)
	_, err = p.EncryptBatch(t.Context(), []kmsencrypted.Plain{kmsencrypted.NewPlain(secret, bind(t, user))})
	fails(t, err, kmsencrypted.ErrKeyUnusable)
	key, err := e.root.Logical().ReadWithContext(t.Context(), e.mount+"/keys/misspelt")
	if key != nil || err != nil {
		t.Errorf("the server has made the key: %v, %v", key, err)
	}
}

// testMinDecryptionVersion: the owner of a key can retire its old versions.
func testMinDecryptionVersion(t *testing.T, e *engine) {
	e.newKey(t, "k", true)
	p := e.provider(t, "k", false)
	old := encrypt(t, p)
	e.write(t, "keys/k/rotate", nil)
	renewed, err := p.Rewrap(t.Context(), kmsencrypted.Wrapped{Ciphertext: old, Context: bind(t, user)}, p, bind(t, user))
	must(t, err)
	if !strings.HasPrefix(string(old), "vault:v1:") || !strings.HasPrefix(string(renewed), "vault:v2:") {
		t.Errorf("versions are %.9s and %.9s, want 1 and 2", old, renewed)
	}
	e.write(t, "keys/k/config", map[string]any{"min_decryption_version": 2})
	_, err = p.Decrypt(t.Context(), old, bind(t, user))
	fails(t, err, kmsencrypted.ErrKeyUnusable)
	plaintext, err := p.Decrypt(t.Context(), renewed, bind(t, user))
	if err != nil || string(plaintext) != string(secret) {
		t.Errorf("Decrypt = %q, %v, want the secret", plaintext, err)
	}
}

func testRewrapBatch(t *testing.T, e *engine) {
	e.newKey(t, "k", true)
	e.newKey(t, "other", true)
	p := e.provider(t, "k", false)
	stays := func(ciphertext []byte, ec kmsencrypted.EncryptionContext) kmsencrypted.Rewrapping {
		return kmsencrypted.Rewrapping{From: kmsencrypted.Wrapped{Ciphertext: ciphertext, Context: bind(t, ec)}, To: bind(t, ec)}
	}
	good := stays(encrypt(t, p), user)
	moves := good
	moves.To = bind(t, kmsencrypted.Context{"model_id": 124})
	items := []struct {
		kmsencrypted.Rewrapping
		want error
	}{
		{stays(good.From.Ciphertext, kmsencrypted.Context{"model_id": 1}), kmsencrypted.ErrDecrypt},
		{good, nil},
		{stays([]byte("vault:v9:AAAA"), user), kmsencrypted.ErrDecrypt},
		{moves, errors.ErrUnsupported},
		{stays([]byte("text"), user), kmsencrypted.ErrDecrypt},
		{good, nil},
	}
	e.write(t, "keys/k/rotate", nil)
	batch := make([]kmsencrypted.Rewrapping, len(items))
	for i, item := range items {
		batch[i] = item.Rewrapping
	}
	results, err := p.RewrapBatch(t.Context(), batch, p)
	must(t, err)
	for i, r := range results {
		if items[i].want != nil {
			fails(t, r.Err, items[i].want)
			continue
		}
		must(t, r.Err)
		plaintext, err := p.Decrypt(t.Context(), r.Bytes, good.To)
		if !strings.HasPrefix(string(r.Bytes), "vault:v2:") || err != nil || string(plaintext) != string(secret) {
			t.Errorf("item %d = %.9s…, which opens as %q, %v", i, r.Bytes, plaintext, err)
		}
	}
	_, err = p.RewrapBatch(t.Context(), batch, e.provider(t, "other", false))
	fails(t, err, errors.ErrUnsupported)
}

// testRewrapRefuses what the server cannot do in one step.
func testRewrapRefuses(t *testing.T, e *engine) {
	e.newKey(t, "k", true)
	e.newKey(t, "other", true)
	p, ec := e.provider(t, "k", false), bind(t, user)
	from := kmsencrypted.Wrapped{Ciphertext: encrypt(t, p), Context: ec}
	if !p.RewrapsFrom(e.provider(t, "k", false)) || p.RewrapsFrom(e.provider(t, "other", false)) {
		t.Error("RewrapsFrom is to be true of the same key, and of no other")
	}
	for name, call := range map[string]func() ([]byte, error){
		"another key": func() ([]byte, error) { return p.Rewrap(t.Context(), from, e.provider(t, "other", false), ec) },
		"another context": func() ([]byte, error) {
			return p.Rewrap(t.Context(), from, p, bind(t, kmsencrypted.Context{"model_id": 124}))
		},
		"no context": func() ([]byte, error) { return p.Rewrap(t.Context(), from, p, bind(t, nil)) },
	} {
		if _, err := call(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Rewrap from %s: error = %v, want %v", name, err, errors.ErrUnsupported)
		}
	}
}

// testContextHash finds the context of a decryption in the audit log.
func testContextHash(t *testing.T, e *engine) {
	log := filepath.Join(t.TempDir(), "audit.log")
	device := e.mount
	err := e.root.Sys().EnableAuditWithOptionsWithContext(t.Context(), device, &api.EnableAuditOptions{
		Type: "file", Options: map[string]string{"file_path": log},
	})
	if os.Getenv("KMSENCRYPTED_VAULT_ADDR") != "" && err != nil {
		t.Skipf("the server in use admits no audit file here: %v", err)
	}
	must(t, err)
	t.Cleanup(func() { e.root.Sys().DisableAuditWithContext(context.Background(), device) })
	e.newKey(t, "k", true)
	p := e.provider(t, "k", false)
	_, err = p.Decrypt(t.Context(), encrypt(t, p), bind(t, user))
	must(t, err)
	p, err = vault.New(e.root, "vault/k", vault.Options{Mount: e.mount})
	must(t, err)
	hash, err := p.ContextHash(t.Context(), device, bind(t, user))
	must(t, err)
	text, err := os.ReadFile(log)
	must(t, err)
	if n := strings.Count(string(text), hash); !strings.HasPrefix(hash, "hmac-sha256:") || n < 2 {
		t.Errorf("%q is %d times in the audit log, want once each for encrypt and decrypt", hash, n)
	}
	if strings.Contains(string(text), string(secret)) {
		t.Error("the audit log holds the plaintext")
	}
	other, err := p.ContextHash(t.Context(), device, bind(t, kmsencrypted.Context{"model_id": 124}))
	if err != nil || strings.Contains(string(text), other) {
		t.Errorf("the hash of another context is in the log: %q, %v", other, err)
	}
	_, err = p.ContextHash(t.Context(), "../mounts", bind(t, user))
	fails(t, err, kmsencrypted.ErrConfig)
}

func testExpiredToken(t *testing.T, e *engine) {
	e.newKey(t, "k", true)
	must(t, e.root.Auth().Token().RevokeTreeWithContext(t.Context(), e.token))
	_, err := e.provider(t, "k", false).Encrypt(t.Context(), secret, bind(t, user))
	fails(t, err, kmsencrypted.ErrDenied)
	if strings.Contains(err.Error(), e.token) {
		t.Error("the error holds the token")
	}
}

// TestVaultSealed has a server of its own, since it ends its life.
func TestVaultSealed(t *testing.T) {
	t.Parallel()
	if os.Getenv("KMSENCRYPTED_VAULT_ADDR") != "" {
		t.Skip("the server in use is not sealed")
	}
	e := newEngine(t, vaultserver.Start(t))
	e.newKey(t, "k", true)
	p := e.provider(t, "k", false)
	sealed := encrypt(t, p)
	must(t, e.root.Sys().SealWithContext(t.Context()))
	_, err := p.Decrypt(t.Context(), sealed, bind(t, user))
	fails(t, err, kmsencrypted.ErrUnavailable)
	fails(t, p.Probe(t.Context()), kmsencrypted.ErrUnavailable)
}

// testOpen sets the environment that Open reads.
func testOpen(t *testing.T, server vaultserver.Server) {
	e := newEngine(t, server)
	e.newKey(t, "k", true)
	t.Setenv("VAULT_ADDR", server.Addr)
	t.Setenv("VAULT_TOKEN", e.token)
	t.Setenv("VAULT_NAMESPACE", "")
	p, err := vault.Open(t.Context(), "vault/k", vault.Options{Mount: e.mount})
	must(t, err)
	if plaintext, err := p.Decrypt(t.Context(), encrypt(t, p), bind(t, user)); err != nil || string(plaintext) != string(secret) {
		t.Errorf("Decrypt = %q, %v, want the secret", plaintext, err)
	}
	_, err = vault.Open(t.Context(), "vault/missing", vault.Options{Mount: e.mount})
	fails(t, err, kmsencrypted.ErrKeyUnusable)
	t.Setenv("VAULT_CLIENT_TIMEOUT", "soon")
	_, err = vault.Open(t.Context(), "vault/k", vault.Options{})
	fails(t, err, kmsencrypted.ErrConfig)
}
