package kmsencrypted_test

import (
	"context"
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// A column that names its own key goes into no batch, and opens only with a
// provider that knows such columns.
func TestBatchesLeaveLegacyColumnsOut(t *testing.T) {
	b := &batcher{service: newService(t)}
	box := newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: b, Format: kmsencrypted.Ruby}}})
	columns := wrapped(t, box, 3)
	columns[0].Column, columns[1].Column = "$gc$cHJvamVjdHM=$x", "$gc$"
	for i, r := range box.UnwrapAll(t.Context(), columns) {
		if wantErr := i < 2; errors.Is(r.Err, kmsencrypted.ErrDecrypt) != wantErr || (r.Err != nil) != wantErr {
			t.Errorf("column %d: %v", i, r.Err)
		}
	}
}

// severalAndBatches wraps by several providers, and takes batches besides.
type severalAndBatches struct{ *batcher }

func (s severalAndBatches) BatchSize() int { return 0 }

func (s severalAndBatches) EncryptAll(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]kmsencrypted.Wrap, error) {
	ciphertext, err := s.Encrypt(ctx, plaintext, ec)
	return []kmsencrypted.Wrap{{Tag: "one", Ciphertext: ciphertext}, {Tag: "two", Ciphertext: ciphertext}}, err
}

func (s severalAndBatches) DecryptAny(ctx context.Context, wraps []kmsencrypted.Wrap, ec kmsencrypted.BoundContext, check func([]byte) error) ([]byte, error) {
	plaintext, err := s.Decrypt(ctx, wraps[len(wraps)-1].Ciphertext, ec)
	if err == nil {
		err = check(plaintext)
	}
	return plaintext, err
}

// A batch would make one wrap where several are wanted.
func TestSeveralProvidersTakeNoBatches(t *testing.T) {
	s := severalAndBatches{&batcher{service: newService(t)}}
	box := newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: s}}})
	keys := make([]kmsencrypted.KeyToWrap, 5)
	columns := make([]kmsencrypted.WrappedKey, len(keys))
	for i := range keys {
		keys[i] = kmsencrypted.KeyToWrap{Key: kmsencrypted.NewDataKey(), Binding: kmsencrypted.Binding{ID: []string{"1"}}}
	}
	for i, r := range box.WrapAll(t.Context(), keys) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		columns[i] = kmsencrypted.WrappedKey{Column: r.Column, Binding: keys[i].Binding}
	}
	for i, r := range box.UnwrapAll(t.Context(), columns) {
		if r.Err != nil || !r.Key.Equal(keys[i].Key) {
			t.Errorf("column %d: %v", i, r.Err)
		}
	}
	if n := s.requests.Load(); n != 0 {
		t.Errorf("%d batches, want none", n)
	}
}
