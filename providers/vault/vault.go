// Package vault wraps data keys under a key of the transit engine of HashiCorp
// Vault or of OpenBao. The server derives the key that encrypts from the
// encryption context, so the context is checked on every decryption. Audit
// devices log it hashed (see [Provider.ContextHash]).
//
//	vault write transit/keys/my-key derived=true     # or: bao write …
//
//	provider, err := vault.Open(ctx, "vault/my-key", vault.Options{})
//
// The key must be made with derived=true: a plain key accepts a context and
// ignores it. [Open] and [Provider.Probe] check that, for which the token needs
// read on transit/keys/my-key. [New] checks nothing.
//
// The token needs update on transit/encrypt/my-key to wrap, on
// transit/decrypt/my-key to unwrap and on transit/rewrap/my-key to rewrap. Do not
// grant create: with it, a misspelt key name in another program silently creates
// a new key. This package prevents that for its own calls: it names a key type
// that cannot encrypt, which servers check only if they would create a key.
// transit/config/keys disable_upsert=true prevents it for every program.
//
// Columns written by kms_encrypted open here, and the other way round.
package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"regexp"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/reason"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// Options of a [Provider]. The zero value is usual.
type Options struct {
	// Mount is the path of the transit engine; empty is "transit".
	Mount string
	// Namespace is the namespace of the engine, relative to the client's own, on
	// servers that have namespaces; empty means none.
	Namespace string
	// NotDerived accepts a key that was made without derived=true. The service then
	// ignores the context, and [kmsencrypted.KeyInfo].IgnoresContext is set.
	NotDerived bool
	// Login returns a token: of a login, or of a file (see [TokenFile]). Nil means
	// that the client has one and somebody else keeps it alive.
	//
	// [Open] calls Login first, in place of reading VAULT_TOKEN. A request that the
	// server refuses with 403 calls it again, sets the token of the client, and is
	// made once more. Calls of Login do not overlap. After a login that did not help
	// there is none for five seconds, because the server also answers 403 if a valid
	// token lacks a right. An error of Login ends the request.
	Login func(context.Context) (token string, err error)
}

// Provider wraps data keys under one key. It is immutable and safe for concurrent
// use. If the client gets a new token later, the provider uses it.
type Provider struct {
	client     *api.Client
	keyID      string
	mount      string // with the namespace, such as "ns/transit"
	name       string // of the key
	notDerived bool
	login      *login // nil if the provider cannot get another token
}

const (
	prefix       = "vault/"
	defaultMount = "transit"
)

// pathShape matches one or more names separated by slashes. None is "..".
var pathShape = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$`)

// New returns a provider for the key id "vault/NAME". Something else, or a
// malformed mount or namespace, is [kmsencrypted.ErrConfig], and so is a nil client.
//
// New does not call the service: call [Provider.Probe] to check that the key exists
// and is derived. Address and token are those of the client. Neither the client nor
// the provider has to be closed.
func New(client *api.Client, keyID string, options Options) (*Provider, error) {
	if client == nil {
		return nil, fmt.Errorf("vault: %w: the client is nil", kmsencrypted.ErrConfig)
	}
	name, ok := strings.CutPrefix(keyID, prefix)
	if !ok || !pathShape.MatchString(name) {
		return nil, fmt.Errorf("vault: %w: %q is not vault/ and the name of a key", kmsencrypted.ErrConfig, keyID)
	}
	mount := strings.Trim(options.Mount, "/")
	if mount == "" {
		mount = defaultMount
	}
	if namespace := strings.Trim(options.Namespace, "/"); namespace != "" {
		mount = namespace + "/" + mount
	}
	if !pathShape.MatchString(mount) {
		return nil, fmt.Errorf("vault: %w: %q is not a mount path", kmsencrypted.ErrConfig, mount)
	}
	p := &Provider{client: client, keyID: keyID, mount: mount, name: name, notDerived: options.NotDerived}
	if options.Login != nil {
		p.login = newLogin(options.Login)
	}
	return p, nil
}

// Check returns [kmsencrypted.ErrConfig] for a nil or zero Provider.
func (p *Provider) Check() error {
	if p == nil || p.client == nil {
		return fmt.Errorf("vault: %w: the provider was not made by New or Open", kmsencrypted.ErrConfig)
	}
	return nil
}

// Info names the key as configured. Its tag is "vault".
func (p *Provider) Info() kmsencrypted.KeyInfo {
	if p == nil {
		p = new(Provider)
	}
	return kmsencrypted.KeyInfo{Provider: "vault", KeyID: p.keyID, Tag: "vault", IgnoresContext: p.notDerived}
}

// Encrypt wraps plaintext under the newest version of the key. The ciphertext is
// text, "vault:v1:…". A derived key needs a context: without one Encrypt returns
// [kmsencrypted.ErrContext].
func (p *Provider) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	request := encryptItem(plaintext, ec)
	request["type"] = neverCreate
	return p.write(ctx, encrypting, request)
}

// Decrypt unwraps what Encrypt returned, under any version of the key that
// min_decryption_version allows.
func (p *Provider) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if !wellFormed(ciphertext) {
		return nil, p.failed(decrypting, kmsencrypted.ErrDecrypt)
	}
	return p.write(ctx, decrypting, ciphertextItem(ciphertext, ec))
}

// Rewrap moves a ciphertext of the same key and context to the newest version of
// the key. It returns [errors.ErrUnsupported] for another key, server or context.
func (p *Provider) Rewrap(ctx context.Context, from kmsencrypted.Wrapped, source kmsencrypted.Provider, to kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if !p.RewrapsFrom(source) || !sameContext(from.Context, to) {
		return nil, errOtherKeyOrContext
	}
	if !wellFormed(from.Ciphertext) {
		return nil, p.failed(rewrapping, kmsencrypted.ErrDecrypt)
	}
	return p.write(ctx, rewrapping, ciphertextItem(from.Ciphertext, to))
}

var errOtherKeyOrContext = fmt.Errorf("vault: rewrap from another key or context: %w", errors.ErrUnsupported)

// RewrapsFrom reports whether source is a provider of the same key.
func (p *Provider) RewrapsFrom(source kmsencrypted.Provider) bool {
	old, ok := source.(*Provider)
	return ok && p.Check() == nil && old.Check() == nil && old.mount == p.mount && old.name == p.name && old.client.Address() == p.client.Address() &&
		old.client.Namespace() == p.client.Namespace()
}

func sameContext(a, b kmsencrypted.BoundContext) bool {
	return a.Absent() == b.Absent() && bytes.Equal(a.Bytes(), b.Bytes())
}

// operation is an operation of the engine, and the field of its answer.
type operation struct{ name, field string }

var (
	encrypting = operation{"encrypt", "ciphertext"}
	decrypting = operation{"decrypt", "plaintext"}
	rewrapping = operation{"rewrap", "ciphertext"}
)

// neverCreate is the type of a key that signs. If the key does not exist and the
// token may create one, the server refuses, because the new key could not
// encrypt. If the key exists, the server ignores the type.
const neverCreate = "ecdsa-p256"

// item is the body of a request, or one item of a batch.
type item map[string]any

func encryptItem(plaintext []byte, ec kmsencrypted.BoundContext) item {
	return item{"plaintext": rubycompat.Encode64(plaintext)}.under(ec)
}

func ciphertextItem(ciphertext []byte, ec kmsencrypted.BoundContext) item {
	return item{"ciphertext": string(ciphertext)}.under(ec)
}

// under adds the context as Ruby sends it, with newlines: the server ignores
// them, but audit devices hash the text.
func (i item) under(ec kmsencrypted.BoundContext) item {
	if !ec.Absent() {
		i["context"] = rubycompat.Encode64(ec.Bytes())
	}
	return i
}

// ciphertextShape is strict: versions begin at 1. The server would read version 0
// as 1, and accept base64 with other spare bits or newlines, so that changed
// bytes would open.
var ciphertextShape = regexp.MustCompile(`^vault:v[1-9][0-9]*:([A-Za-z0-9+/]+=*)$`)

func wellFormed(ciphertext []byte) bool {
	match := ciphertextShape.FindSubmatch(ciphertext)
	return match != nil && rubycompat.StrictEncode64(rubycompat.Decode64(string(match[1]))) == string(match[1])
}

// write makes a request for one value and returns the value in the answer.
func (p *Provider) write(ctx context.Context, op operation, request item) ([]byte, error) {
	secret, err := p.request(ctx, func() (*api.Secret, error) {
		return p.clientFor(ctx).Logical().WriteWithContext(countingAttempts(ctx), p.path(op), request)
	})
	if err != nil {
		return nil, p.answered(ctx, op, err)
	}
	if secret == nil {
		return nil, p.failed(op, errNoAnswer)
	}
	value, err := p.value(op, secret.Data)
	if err == nil && op != decrypting {
		noteVersion(ctx, value)
	} else if sealed, ok := request["ciphertext"].(string); ok && err == nil {
		noteVersion(ctx, []byte(sealed))
	}
	return value, err
}

// reasonHeader is logged by an audit device that is told so.
const reasonHeader = "X-Kms-Reason"

// clientFor returns the client for a request: with a header, if it has a reason.
func (p *Provider) clientFor(ctx context.Context) *api.Client {
	text := reason.Of(ctx)
	if text == "" {
		return p.client
	}
	return p.client.WithRequestCallbacks(func(r *api.Request) { r.Headers.Set(reasonHeader, text) })
}

// countingAttempts reports each attempt of the client to observers, by the
// connection that it takes.
func countingAttempts(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GetConn: func(string) { kmsencrypted.Attempted(ctx) }})
}

// noteVersion reports to observers the version of the key that a ciphertext is
// under.
func noteVersion(ctx context.Context, ciphertext []byte) {
	if parts := strings.SplitN(string(ciphertext), ":", 3); len(parts) == 3 {
		kmsencrypted.UsedKeyVersion(ctx, strings.TrimPrefix(parts[1], "v"))
	}
}

func (p *Provider) path(op operation) string { return p.mount + "/" + op.name + "/" + p.name }

func (p *Provider) value(op operation, answer map[string]any) ([]byte, error) {
	text, ok := answer[op.field].(string)
	if !ok {
		return nil, p.failed(op, errNoAnswer)
	}
	if op == decrypting {
		return rubycompat.Decode64(text), nil
	}
	return []byte(text), nil
}

var (
	_ kmsencrypted.BatchRewrapper   = (*Provider)(nil)
	_ kmsencrypted.RewrapForeteller = (*Provider)(nil)
	_ kmsencrypted.Prober           = (*Provider)(nil)
	_ kmsencrypted.Checker          = (*Provider)(nil)
)
