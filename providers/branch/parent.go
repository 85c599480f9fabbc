package branch

import (
	"context"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// parent wraps the keys of the branches under a parent, which the pair "parent" of their
// context names (spec/branch.md section 4). One value is for one row.
type parent struct {
	p *Provider
	// since becomes the time when the parent's own key was opened, so that a branch is not
	// used for longer than its parent.
	since time.Time
}

func (a *parent) Info() kmsencrypted.KeyInfo { return a.p.Info() }

func (a *parent) InMemory() {}

func (a *parent) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) (ciphertext []byte, err error) {
	err = a.with(ctx, ec, 0, func(k *key) (err error) {
		ciphertext, err = k.seal(plaintext, true, ec)
		return err
	})
	return ciphertext, err
}

func (a *parent) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) (plaintext []byte, err error) {
	version, ok := versionOf(ciphertext)
	if !ok {
		return nil, a.p.failed(kmsencrypted.OpUnwrap, kmsencrypted.ErrDecrypt, nil)
	}
	err = a.with(ctx, ec, version, func(k *key) (err error) {
		plaintext, err = k.open(ciphertext, true, ec)
		return err
	})
	return plaintext, err
}

func (a *parent) with(ctx context.Context, ec kmsencrypted.BoundContext, version uint32, f func(*key) error) error {
	text, _ := ec.Value("parent")
	name := Name{Branch: text}
	err := a.p.with(ctx, name, version, func(k *key) error {
		if e, ok := a.p.cache.last(entryID{name, k.version}); ok && e.since.Before(a.since) {
			a.since = e.since
		}
		return f(k)
	})
	if err != nil {
		return a.p.opError(kmsencrypted.OpUnwrap, name, err)
	}
	return nil
}
