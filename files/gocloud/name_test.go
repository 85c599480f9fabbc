package gocloud

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// copyAll copies what the store has, under other keys.
func copyAll(t *testing.T, to, from *blob.Bucket, toPrefix, fromPrefix string) {
	t.Helper()
	for it := from.List(&blob.ListOptions{Prefix: fromPrefix}); ; {
		o, err := it.Next(t.Context())
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := from.ReadAll(t.Context(), o.Key)
		if err != nil {
			t.Fatal(err)
		}
		write(t, to, toPrefix+strings.TrimPrefix(o.Key, fromPrefix), content)
	}
}

// Objects with their sidecars open in a copy of the bucket under the same name, and
// neither under another name nor under another tenant's prefix.
func TestObjectsCopiedToAnotherBucket(t *testing.T) {
	t.Parallel()
	box := kmstest.Box(t)
	a, b := memblob.OpenBucket(nil), memblob.OpenBucket(nil)
	write(t, Encrypt(a, "a", box), "contracts/7.pdf", pattern(50_000))
	copyAll(t, b, a, "", "")
	wantBytes(t, Encrypt(b, "a", box), "contracts/7.pdf", pattern(50_000))
	if got, err := Encrypt(b, "b", box).ReadAll(t.Context(), "contracts/7.pdf"); !errors.Is(err, kmsencrypted.ErrDecrypt) || len(got) > 0 {
		t.Errorf("an object of bucket a in bucket b = %d bytes, %v, want ErrDecrypt", len(got), err)
	}
	path := t.TempDir()
	folder := func() *blob.Bucket {
		b, err := fileblob.OpenBucket(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	part := func(tenant string) *blob.Bucket {
		return Encrypt(blob.PrefixedBucket(folder(), tenant+"/"), "invoices of "+tenant, box)
	}
	write(t, part("a"), "1.pdf", pattern(10))
	copyAll(t, folder(), folder(), "b/", "a/")
	if got, err := part("b").ReadAll(t.Context(), "1.pdf"); !errors.Is(err, kmsencrypted.ErrDecrypt) || len(got) > 0 {
		t.Errorf("an invoice of tenant a at tenant b = %d bytes, %v, want ErrDecrypt", len(got), err)
	}
}

// writeAsBefore writes an object as a release without names of buckets did.
func writeAsBefore(t *testing.T, inner *blob.Bucket, box *kmsencrypted.Box, key string, content []byte) {
	t.Helper()
	fileKey := files.NewKey()
	var object strings.Builder
	w, err := files.NewWriter(t.Context(), &object, fileKey, files.Options{})
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := fileKey.Raw()
	if err != nil {
		t.Fatal(err)
	}
	id := w.ID()
	plaintext := append(append([]byte{cardVersion}, id[:]...), raw...)
	text, err := box.Encrypt(t.Context(), append(plaintext, `{"type":"text/plain"}`...), kmsencrypted.Context{"object": key})
	if err != nil {
		t.Fatal(err)
	}
	write(t, inner, sidecarName(key, id), []byte(text))
	write(t, inner, key, []byte(object.String()))
}

// Objects of a release without names open by decision only, and a rewrap names them.
func TestUnnamedObjects(t *testing.T) {
	t.Parallel()
	inner, box := memblob.OpenBucket(nil), kmstest.Box(t)
	writeAsBefore(t, inner, box, "old", pattern(20_000))
	strict := New(inner, "test", box, Options{})
	write(t, strict.Blob(), "new", pattern(10))
	if _, err := strict.Blob().ReadAll(t.Context(), "old"); !errors.Is(err, kmsencrypted.ErrBinding) || gcerrors.Code(err) != gcerrors.FailedPrecondition {
		t.Errorf("an object without a name = %v, want ErrBinding", err)
	}
	if r, err := strict.Rewrap(t.Context(), RewrapOptions{}); err != nil || r.Unnamed != 1 || r.Failed != 1 || r.Rewrapped != 0 {
		t.Errorf("Rewrap without Unnamed = %+v, %v, want one failure", r, err)
	}
	lax := New(inner, "test", box, Options{Unnamed: func(key string) kmsencrypted.EncryptionContext { return kmsencrypted.Context{"object": key} }})
	wantBytes(t, lax.Blob(), "old", pattern(20_000))
	if r, err := lax.Rewrap(t.Context(), RewrapOptions{DryRun: true}); err != nil || r.Unnamed != 1 || r.Found[1] != 2 || r.Rewrapped != 0 {
		t.Errorf("dry run = %+v, %v, want one of two unnamed", r, err)
	}
	if r, err := lax.Rewrap(t.Context(), RewrapOptions{}); err != nil || r.Unnamed != 1 || r.Rewrapped != 1 || r.Failed != 0 {
		t.Errorf("Rewrap = %+v, %v, want one rewrapped", r, err)
	}
	wantBytes(t, strict.Blob(), "old", pattern(20_000))
	wantBytes(t, strict.Blob(), "new", pattern(10))
}

// A key is taken with all its sidecar needs, or refused before the first byte.
func TestLongKeys(t *testing.T) {
	t.Parallel()
	folder, err := fileblob.OpenBucket(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		store      string
		inner      *blob.Bucket
		key        string
		taken      bool
		tooLarge   bool
		plainTakes bool
	}{
		{"memory", memblob.OpenBucket(nil), strings.Repeat("k", 987), true, false, true},
		{"memory", memblob.OpenBucket(nil), strings.Repeat("k", 988), false, true, true},
		{"folder", folder, "a/" + strings.Repeat("k", 197), true, false, true},
		{"folder", folder, "b/" + strings.Repeat("k", 198), false, false, true},
		{"folder", folder, "c/" + strings.Repeat("d", 200) + "/" + strings.Repeat("k", 128), true, false, true},
	} {
		b := Encrypt(c.inner, "test", kmstest.Box(t))
		read := 0
		src := readerFunc(func(p []byte) (int, error) {
			if read++; read > 3 {
				return 0, io.EOF
			}
			return len(p), nil
		})
		err := b.Upload(t.Context(), c.key, src, &blob.WriterOptions{ContentType: "text/plain"})
		if (err == nil) != c.taken || errors.Is(err, kmsencrypted.ErrTooLarge) != c.tooLarge {
			t.Errorf("%s: a key of %d bytes: %v", c.store, len(c.key), err)
		}
		if !c.taken && read > 0 {
			t.Errorf("%s: a key of %d bytes was refused after %d reads", c.store, len(c.key), read)
		}
		if err := c.inner.WriteAll(t.Context(), "plain"+c.key, nil, nil); (err == nil) != c.plainTakes && c.store != "folder" {
			t.Errorf("%s: the plain bucket: %v", c.store, err)
		}
		if c.taken {
			if _, err := b.ReadAll(t.Context(), c.key); err != nil {
				t.Errorf("%s: a key of %d bytes does not read: %v", c.store, len(c.key), err)
			}
		}
	}
	// An upload that is given up leaves no sidecar.
	inner := memblob.OpenBucket(nil)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := Encrypt(inner, "test", kmstest.Box(t)).NewWriter(ctx, strings.Repeat("k", 300), &blob.WriterOptions{ContentType: "text/plain"})
	if err != nil {
		t.Fatal(err)
	}
	w.Write(pattern(100_000))
	cancel()
	if err := w.Close(); err == nil {
		t.Error("Close of a cancelled upload: no error")
	}
	if objects, sidecars := stored(t, inner); len(objects)+len(sidecars) != 0 {
		t.Errorf("%v and %v are left", objects, sidecars)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The text of a sidecar says by its first bytes whether its context has the name.
func TestSidecarText(t *testing.T) {
	t.Parallel()
	inner, box := memblob.OpenBucket(nil), kmstest.Box(t)
	write(t, Encrypt(inner, "contracts", box), "a", pattern(1))
	_, sidecars := stored(t, inner)
	text, err := inner.ReadAll(t.Context(), sidecars[0])
	if err != nil {
		t.Fatal(err)
	}
	secret, ok := strings.CutPrefix(string(text), "kek2:v1:")
	if _, err := base64.StdEncoding.DecodeString(secret); !ok || err != nil {
		t.Errorf("sidecar %.20s…, %v, want kek2:v1:…", text, err)
	}
	plaintext, err := box.Decrypt(t.Context(), "v1:"+secret, kmsencrypted.Context{"bucket": "contracts", "object": "a"})
	if err != nil || plaintext[0] != cardVersion {
		t.Errorf("the secret opens as %x, %v", plaintext, err)
	}
}

// Prune never takes the sidecar of an object that is being written, however long that
// lasts and however long its name is.
func TestPruneWhileWriting(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"short", strings.Repeat("n", 129), "folder/" + strings.Repeat("n", 190)} {
		inner := memblob.OpenBucket(nil)
		b := New(inner, "test", boxes(t, 1), Options{})
		w, err := b.Blob().NewWriter(t.Context(), key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(pattern(100_000)); err != nil {
			t.Fatal(err)
		}
		// A day passes. Prune looks for old sidecars, and the object is finished while it
		// does: what it found must not be deleted.
		var old []sidecar
		if err := b.sidecars(t.Context(), "", func(s sidecar) error { old = append(old, s); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for _, s := range old {
			if err := inner.Delete(t.Context(), sidecarName(s.key, s.id)); err != nil {
				t.Fatal(err)
			}
		}
		wantBytes(t, b.Blob(), key, pattern(100_000))
		if len(old) > 0 {
			t.Errorf("a key of %d bytes has %d sidecars before its object", len(key), len(old))
		}
		if n, err := b.prune(t.Context(), "", time.Now().Add(time.Hour)); n != 0 || err != nil {
			t.Errorf("prune = %d, %v, want none: the name that was tried is left", n, err)
		}
	}
}

// A prefix that leads out of a folder is an error, where the driver of folders panics.
func TestPrefixOutOfFolder(t *testing.T) {
	t.Parallel()
	inner, err := fileblob.OpenBucket(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := New(inner, "test", boxes(t, 1), Options{})
	for _, prefix := range []string{"../", "../../x", "a/../../x", ".."} {
		if _, err := b.Blob().List(&blob.ListOptions{Prefix: prefix}).Next(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("List(%q) = %v, want ErrConfig", prefix, err)
		}
		if _, err := b.Rewrap(t.Context(), RewrapOptions{Prefix: prefix}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Rewrap(%q) = %v, want ErrConfig", prefix, err)
		}
		if _, err := b.Prune(t.Context(), prefix, time.Hour); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Prune(%q) = %v, want ErrConfig", prefix, err)
		}
		store := Attachments(inner)
		put := store.Put(t.Context(), prefix, func(io.Writer) error { return nil })
		_, open := store.Open(t.Context(), prefix)
		for what, err := range map[string]error{"Put": put, "Open": open, "Delete": store.Delete(t.Context(), prefix)} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s of an attachment %q = %v, want fs.ErrInvalid", what, prefix, err)
			}
		}
	}
}

// What no reader takes is not written.
func TestAttributesTooLarge(t *testing.T) {
	t.Parallel()
	inner := memblob.OpenBucket(nil)
	b := New(inner, "test", boxes(t, 1), Options{})
	err := b.Blob().WriteAll(t.Context(), "x", []byte("y"), &blob.WriterOptions{Metadata: map[string]string{"a": strings.Repeat("b", 1<<20)}})
	if !errors.Is(err, kmsencrypted.ErrTooLarge) {
		t.Errorf("a MiB of metadata: %v, want ErrTooLarge", err)
	}
	if exists, err := b.Blob().Exists(t.Context(), "x"); exists || err != nil {
		t.Errorf("the object exists: %v, %v", exists, err)
	}
}
