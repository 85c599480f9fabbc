package gocloud

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/memblob"

	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// Somebody who writes to the stores copies objects and sidecars between keys, buckets and
// times at random. What opens under a name and a key was written there once.
func TestExchangedAtRandom(t *testing.T) {
	t.Parallel()
	const seed = 16
	r := rand.New(rand.NewPCG(seed, 1))
	box := kmstest.Box(t)
	path, other := t.TempDir(), memblob.OpenBucket(nil)
	folder := func() *blob.Bucket { // a prefixed bucket closes the one that it was made of
		b, err := fileblob.OpenBucket(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	views := []view{
		{folder(), "a/", "contracts", Encrypt(blob.PrefixedBucket(folder(), "a/"), "contracts", box)},
		{folder(), "b/", "invoices", Encrypt(blob.PrefixedBucket(folder(), "b/"), "invoices", box)},
		{other, "", "others", Encrypt(other, "others", box)},
	}
	keys := []string{"k", "k.1", "deep/k", "b", "contracts"}
	written := make(map[string][]string) // by name and key
	var past []storedObject
	opened, refused := 0, 0
	for step := range 300 {
		v, key := views[r.IntN(len(views))], keys[r.IntN(len(keys))]
		place := v.name + ": " + key
		switch r.IntN(4) {
		case 0:
			content := fmt.Sprint(place, " ", step, strings.Repeat("x", r.IntN(40_000)))
			if v.bucket.WriteAll(t.Context(), key, []byte(content), nil) == nil {
				written[place] = append(written[place], content)
			}
			past = append(past, v.stored(t, key)...)
			past = past[max(0, len(past)-100):]
		case 1, 2:
			if len(past) > 0 {
				v.exchange(t, r, past, key)
			}
		case 3:
			got, err := v.bucket.ReadAll(t.Context(), key)
			switch {
			case err != nil:
				refused++
			case slices.Contains(written[place], string(got)):
				opened++
			default:
				t.Fatalf("seed %d, step %d: %q reads %.60q", seed, step, place, got)
			}
		}
	}
	if opened < 15 || refused < 2 {
		t.Errorf("%d opened, %d refused: the test tries too little", opened, refused)
	}
}

// view is an encrypted bucket on a part of a store.
type view struct {
	store  *blob.Bucket
	prefix string
	name   string
	bucket *blob.Bucket
}

// storedObject is what was in a store once.
type storedObject struct {
	name    string
	content []byte
}

// stored returns what is in the store under keys that begin with key.
func (v view) stored(t *testing.T, key string) (all []storedObject) {
	t.Helper()
	for it := v.store.List(&blob.ListOptions{Prefix: v.prefix + key}); ; {
		o, err := it.Next(t.Context())
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := v.store.ReadAll(t.Context(), o.Key)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, storedObject{o.Key, content})
	}
}

// exchange puts an object or a sidecar of the past in the place of a key, most often
// together with what belonged to it. A sidecar sometimes gets the id of another.
func (v view) exchange(t *testing.T, r *rand.Rand, past []storedObject, key string) {
	t.Helper()
	chosen := past[r.IntN(len(past))]
	of, id, _ := splitSidecar(chosen.name)
	if of == "" {
		of = chosen.name
	}
	to := v.prefix + key
	put := func(s storedObject, rename bool) {
		name := to
		if _, own, ok := splitSidecar(s.name); ok && rename {
			name = sidecarName(to, id)
		} else if ok {
			name = sidecarName(to, own)
		}
		write(t, v.store, name, s.content)
	}
	put(chosen, false)
	if r.IntN(3) == 0 {
		return
	}
	for _, s := range past {
		if sidecarOf, _, ok := splitSidecar(s.name); ok && sidecarOf == of || s.name == of {
			put(s, r.IntN(4) == 0)
		}
	}
}
