//go:build cgo

package pkcs11

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/kmsencrypted/kmsencrypted"
)

// Options of a [Provider]. The zero value is usual if the URI has a pin-source.
type Options struct {
	// Mechanism wraps and unwraps. Empty is [AESGCM]. A ciphertext of another mechanism
	// does not open.
	Mechanism Mechanism
	// PIN returns the PIN of the token's user. It is asked for at each login, so it may
	// change. Nil means the file of the URI's pin-source, and without that no login.
	PIN func(context.Context) (string, error)
	// Sessions is the number of calls at a time; 0 means 8. Others wait.
	Sessions int
}

const usualSessions = 8

// Provider wraps data keys under one key of a token. It is safe for concurrent use.
type Provider struct {
	sessions  *sessions
	mechanism mechanism

	mu   sync.Mutex
	keys map[string]pkcs11.ObjectHandle // by id
}

// Open returns a provider for a key by its URI (RFC 7512):
//
//	pkcs11:token=LABEL;object=LABEL?module-path=FILE&pin-source=file:FILE
//
// token, or serial, names the token; object, the label, and id name the key. If several
// keys have one label, that of the id wraps, and the others still unwrap: to rotate,
// make a key of the same label and another id, and name that id. A URI with a
// pin-value is [kmsencrypted.ErrConfig], because the URI shows in logs.
//
// Open loads the module but does not ask the token; see [Provider.Probe]. The caller
// must close the provider.
func Open(uri string, options Options) (*Provider, error) {
	u, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	mechanism, ok := mechanismNamed(options.Mechanism)
	if !ok {
		return nil, fmt.Errorf("pkcs11: %w: unknown mechanism %q", kmsencrypted.ErrConfig, options.Mechanism)
	}
	pin := options.PIN
	if pin == nil && u.pinSource != "" {
		file, ok := strings.CutPrefix(u.pinSource, "file:")
		if !ok {
			return nil, fmt.Errorf("pkcs11: %w: the pin-source is no file: URI", kmsencrypted.ErrConfig)
		}
		pin = pinOf(strings.TrimPrefix(file, "//"))
	}
	if options.Sessions < 0 {
		return nil, fmt.Errorf("pkcs11: %w: Options.Sessions is %d", kmsencrypted.ErrConfig, options.Sessions)
	}
	module, err := load(u.module)
	if err != nil {
		return nil, err
	}
	room := make(chan struct{}, cmp.Or(options.Sessions, usualSessions))
	return &Provider{
		sessions:  &sessions{module: module, uri: u, pin: pin, room: room},
		mechanism: mechanism,
		keys:      make(map[string]pkcs11.ObjectHandle),
	}, nil
}

// pinOf reads a PIN from a file, without the end of its line.
func pinOf(file string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		content, err := os.ReadFile(file)
		return strings.TrimRight(string(content), "\r\n"), err
	}
}

// Close waits for calls under way and closes the sessions. Calls after it return
// [kmsencrypted.ErrConfig]. It may be called again.
func (p *Provider) Close() error {
	if p == nil || p.sessions == nil {
		return nil
	}
	return p.sessions.close()
}

// Check returns [kmsencrypted.ErrConfig] for a nil or zero Provider.
func (p *Provider) Check() error {
	if p == nil || p.sessions == nil {
		return fmt.Errorf("pkcs11: %w: the provider was not made by Open", kmsencrypted.ErrConfig)
	}
	return nil
}

func (p *Provider) uri() uri {
	if p.Check() != nil {
		return uri{}
	}
	return p.sessions.uri
}

// Info names the key by its URI, without what stands after "?". Its tag is "pkcs11".
func (p *Provider) Info() kmsencrypted.KeyInfo {
	return kmsencrypted.KeyInfo{Provider: "pkcs11", KeyID: p.uri().shown(), Tag: "pkcs11", IgnoresContext: p != nil && !p.mechanism.bindsContext}
}

// Encrypt wraps a plaintext. The ciphertext names the id of the key.
func (p *Provider) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	w := wrapped{mechanism: p.mechanism.code}
	plaintext = bytes.Clone(plaintext) // a call that is given up still reads it
	body, err := p.call(ctx, func(s *session, again bool) ([]byte, error) {
		id, key, err := p.wrapsUnder(s, again)
		if err != nil {
			return nil, err
		}
		w.id = id
		return p.mechanism.wrap(s, key, plaintext, associatedData(id, ec))
	}, func() { clear(plaintext) })
	if err != nil {
		return nil, p.answered(ctx, "encrypt", err)
	}
	w.body = body
	kmsencrypted.UsedKeyVersion(ctx, hex.EncodeToString([]byte(w.id)))
	return w.encode(), nil
}

// Decrypt unwraps what Encrypt returned, under the key of the URI's label with the id
// that the ciphertext names.
func (p *Provider) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	w, ok := decode(bytes.Clone(ciphertext))
	if u := p.uri(); !ok || w.mechanism != p.mechanism.code || u.object == "" && w.id != u.id {
		return nil, p.failed("decrypt", kmsencrypted.ErrDecrypt)
	}
	plaintext, err := p.call(ctx, func(s *session, again bool) ([]byte, error) {
		key, err := p.key(s, w.id, again)
		if err != nil {
			return nil, err
		}
		plaintext, err := p.mechanism.unwrap(s, key, w.body, associatedData(w.id, ec))
		if _, isOpening := errors.AsType[failedOpening](err); isOpening && !has(damaged, err) && p.works(s, key) {
			err = errNotWrapped
		}
		return plaintext, err
	}, func() {})
	if errors.Is(err, errNoKey) && p.hasKey(ctx) {
		return nil, p.failed("decrypt", fmt.Errorf("%w (the token has no key of the id %x: it was destroyed, or the ciphertext was changed)", kmsencrypted.ErrDecrypt, w.id))
	}
	if err != nil {
		return nil, p.answered(ctx, "decrypt", err)
	}
	kmsencrypted.UsedKeyVersion(ctx, hex.EncodeToString([]byte(w.id)))
	return plaintext, nil
}

// works reports whether the key wraps and unwraps something else. Some tokens, SoftHSM
// among them, answer changed bytes with an error that may mean anything.
func (p *Provider) works(s *session, key pkcs11.ObjectHandle) bool {
	value := []byte("is the token well")
	body, err := p.mechanism.wrap(s, key, value, nil)
	if has([]pkcs11.Error{pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED}, err) {
		return true // the token is well: it knows what the key may do
	}
	if err != nil {
		return false
	}
	got, err := p.mechanism.unwrap(s, key, body, nil)
	return err == nil && bytes.Equal(got, value)
}

// Probe asks the token for the key. It returns [kmsencrypted.ErrKeyUnusable] if it is
// not there or is no AES key, and [kmsencrypted.ErrDenied] if its attributes permit
// neither wrapping nor unwrapping.
func (p *Provider) Probe(ctx context.Context) error {
	if err := p.Check(); err != nil {
		return err
	}
	_, err := p.call(ctx, func(s *session, again bool) ([]byte, error) {
		_, key, err := p.wrapsUnder(s, again)
		if err != nil {
			return nil, err
		}
		return nil, p.permits(s, key)
	}, func() {})
	if err != nil {
		return p.answered(ctx, "probe", err)
	}
	return nil
}

// permits returns why a key cannot be used.
func (p *Provider) permits(s *session, key pkcs11.ObjectHandle) error {
	read, err := s.library.GetAttributeValue(s.handle, key, []*pkcs11.Attribute{
		pkcs11.NewAttribute(p.mechanism.encrypts, nil), pkcs11.NewAttribute(p.mechanism.decrypts, nil),
	})
	if err != nil {
		return err
	}
	for _, attribute := range read {
		if len(attribute.Value) == 1 && attribute.Value[0] != 0 {
			return nil
		}
	}
	return pkcs11.Error(pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED)
}

func (p *Provider) hasKey(ctx context.Context) bool {
	_, err := p.call(ctx, func(s *session, again bool) ([]byte, error) {
		_, _, err := p.wrapsUnder(s, again)
		return nil, err
	}, func() {})
	return err == nil
}

// call gives do a session of its own, and once more another if that one was lost. A
// call of the token cannot be cancelled: if ctx ends, call returns and the token goes
// on. then runs at the end of the last call.
func (p *Provider) call(ctx context.Context, do func(s *session, again bool) ([]byte, error), then func()) ([]byte, error) {
	type result struct {
		value []byte
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer then()
		value, err := p.attempt(ctx, do, false)
		if has(lost, err) {
			value, err = p.attempt(ctx, do, true)
		}
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		go func() { clear((<-done).value) }() // may be a plaintext
		return nil, ctx.Err()
	}
}

func (p *Provider) attempt(ctx context.Context, do func(s *session, again bool) ([]byte, error), again bool) ([]byte, error) {
	s, err := p.sessions.acquire(ctx, again)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		p.sessions.release(s, false)
		return nil, err
	}
	kmsencrypted.Attempted(ctx)
	value, err := do(s, again)
	p.sessions.release(s, has(lost, err))
	return value, err
}

// wrapsUnder returns the key that new data keys are wrapped under. again means that
// the handle that is known was refused.
func (p *Provider) wrapsUnder(s *session, again bool) (id string, key pkcs11.ObjectHandle, err error) {
	u := p.uri()
	if u.id != "" {
		key, err = p.key(s, u.id, again)
		return u.id, key, err
	}
	found, err := s.find(p.template())
	switch {
	case err != nil:
		return "", 0, err
	case len(found) == 0:
		return "", 0, errNoKey
	case len(found) > 1:
		return "", 0, fmt.Errorf("%w: several keys have this label: add the id= of the one to wrap under to the URI", kmsencrypted.ErrConfig)
	}
	read, err := s.library.GetAttributeValue(s.handle, found[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, nil)})
	if err != nil {
		return "", 0, err
	}
	if len(read[0].Value) > maxID {
		return "", 0, fmt.Errorf("%w: the id of the key has more than %d bytes", kmsencrypted.ErrConfig, maxID)
	}
	return string(read[0].Value), found[0], nil
}

// key finds a key of the URI's label by its id.
func (p *Provider) key(s *session, id string, again bool) (pkcs11.ObjectHandle, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if key, ok := p.keys[id]; ok && !again {
		return key, nil
	}
	delete(p.keys, id)
	found, err := s.find(append(p.template(), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(id))))
	switch {
	case err != nil:
		return 0, err
	case len(found) == 0:
		return 0, errNoKey
	case len(found) > 1:
		return 0, fmt.Errorf("%w: %d keys have this label and the id %x", kmsencrypted.ErrConfig, len(found), id)
	}
	p.keys[id] = found[0]
	return found[0], nil
}

// template describes the keys that the URI names.
func (p *Provider) template() []*pkcs11.Attribute {
	list := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
	}
	if label := p.uri().object; label != "" {
		list = append(list, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	return list
}

// find returns at most two objects.
func (s *session) find(template []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := s.library.FindObjectsInit(s.handle, template); err != nil {
		return nil, err
	}
	found, _, err := s.library.FindObjects(s.handle, 2)
	return slices.Clip(found), errors.Join(err, s.library.FindObjectsFinal(s.handle))
}

var (
	_ kmsencrypted.Prober  = (*Provider)(nil)
	_ kmsencrypted.Checker = (*Provider)(nil)
)
