package s3ec

import (
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// Whoever asks first makes the identity, and everybody gets the same.
func TestIdentity(t *testing.T) {
	t.Parallel()
	store := newMemory()
	client := func() *Client {
		key, err := ParseAES("a static key that has 32 bytes..", nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(store, Options{Keys: []Key{key}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ids := make([]string, 8)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			var err error
			if ids[i], err = client().Identity(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] || len(id) != 26 {
			t.Errorf("identities %q, want one of 26 letters", ids)
		}
	}
	for _, text := range []string{"", strings.Repeat("a", 191)} {
		store.objects[markName] = stored{data: []byte(text)}
		if id, err := client().Identity(t.Context()); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("identity of %d bytes = %q, %v, want ErrMalformed", len(text), id, err)
		}
	}
	store.onGet = func(string, Range) error { return fs.ErrPermission }
	if _, err := client().Identity(t.Context()); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Identity of a store that refuses = %v", err)
	}
}
