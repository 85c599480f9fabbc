package branch

import (
	"context"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// oneKey is a provider under one branch key that wraps everything as one ciphertext.
type oneKey struct {
	k          *key
	ciphertext []byte
}

func (o oneKey) Info() kmsencrypted.KeyInfo {
	return kmsencrypted.KeyInfo{Provider: "branch", KeyID: o.k.label}
}

func (o oneKey) Encrypt(context.Context, []byte, kmsencrypted.BoundContext) ([]byte, error) {
	return o.ciphertext, nil
}

func (o oneKey) Decrypt(_ context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	return o.k.open(ciphertext, false, ec)
}

// opensTo is a provider that opens everything to one value.
type opensTo []byte

func (o opensTo) Info() kmsencrypted.KeyInfo {
	return kmsencrypted.KeyInfo{Provider: "test", KeyID: "test"}
}

func (o opensTo) Encrypt(context.Context, []byte, kmsencrypted.BoundContext) ([]byte, error) {
	return nil, kmsencrypted.ErrDenied
}

func (o opensTo) Decrypt(context.Context, []byte, kmsencrypted.BoundContext) ([]byte, error) {
	return append([]byte(nil), o...), nil
}

// keyOf returns a key column with a data key of these bytes. A Ruby column is the only way
// to choose them.
func keyOf(t *testing.T, box *kmsencrypted.Box, raw []byte, binding kmsencrypted.Binding) (string, error) {
	t.Helper()
	ruby, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: opensTo(raw), Format: kmsencrypted.Ruby}}}.Box()
	if err != nil {
		return "", err
	}
	k, err := ruby.Unwrap(t.Context(), "v1:AAAA", binding)
	if err != nil {
		return "", err
	}
	return box.Wrap(t.Context(), k, binding)
}
