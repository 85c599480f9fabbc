package kmsencrypted_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// The commitment names a data key: a rewrap keeps it, and a version that binds something
// else has another one, which Committed still finds.
func TestCommitment(t *testing.T) {
	t.Parallel()
	p := newService(t)
	at := func(current int) *kmsencrypted.Box {
		b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{
			1: {Provider: p}, 2: {Provider: p}, 3: {Provider: p, OmitID: true}, 4: {Provider: p, Format: kmsencrypted.Ruby}}}.Box()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	to := kmsencrypted.Binding{Table: "users", Column: "key", ID: []string{"7"}, Context: kmsencrypted.Context{"id": 7}}
	key, other := kmsencrypted.NewDataKey(), kmsencrypted.NewDataKey()
	column, err := at(1).Wrap(t.Context(), key, to)
	if err != nil {
		t.Fatal(err)
	}
	first, err := at(1).Commitment(column)
	if err != nil || first == [32]byte{} {
		t.Fatalf("Commitment = %x, %v", first, err)
	}
	for version, same := range map[int]bool{2: true, 3: false} {
		rewrapped, err := at(version).Rewrap(t.Context(), column, to)
		if err != nil {
			t.Fatal(err)
		}
		if now, err := at(version).Commitment(rewrapped); err != nil || (now == first) != same {
			t.Errorf("after a rewrap to version %d the same: %v, %v, want %v", version, now == first, err, same)
		}
		if is, err := at(version).Committed(first, key, to); err != nil || !is {
			t.Errorf("Committed at version %d = %v, %v, want true", version, is, err)
		}
	}
	elsewhere := to
	elsewhere.ID = []string{"8"}
	for name, c := range map[string]struct {
		key kmsencrypted.DataKey
		to  kmsencrypted.Binding
	}{"another data key": {other, to}, "another record": {key, elsewhere}} {
		// Version 3 does not bind the ID, so the commitment of version 1 must not pass for it.
		if is, err := at(1).Committed(first, c.key, c.to); err != nil || is {
			t.Errorf("Committed of %s = %v, %v, want false", name, is, err)
		}
	}
	ruby, err := at(4).Wrap(t.Context(), key, to)
	if err != nil {
		t.Fatal(err)
	}
	if none, err := at(4).Commitment(ruby); err != nil || none != [32]byte{} {
		t.Errorf("Commitment of a Ruby column = %x, %v, want none", none, err)
	}
	secret, err := at(1).Encrypt(t.Context(), []byte("x"), to.Context)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]error{
		"v1:AAAA": kmsencrypted.ErrMalformed, "v1:": kmsencrypted.ErrMalformed, "AAAA": kmsencrypted.ErrMalformed, column + "=": kmsencrypted.ErrMalformed,
		secret: kmsencrypted.ErrMalformed, "v9:AAAA": kmsencrypted.ErrVersionNotActive,
	} {
		if _, err := at(1).Commitment(text); !errors.Is(err, want) {
			t.Errorf("Commitment(%.12q) = %v, want %v", text, err, want)
		}
	}
}
