package buckettest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// partsOf cuts an object into parts of 5 MiB, the least that S3 takes.
func partsOf(object []byte) (parts []attach.Part) {
	const size = 5 << 20
	for offset := 0; offset == 0 || offset < len(object); offset += size {
		content := object[offset:min(offset+size, len(object))]
		parts = append(parts, attach.Part{Number: len(parts) + 1, Offset: int64(offset), Size: int64(len(content)), SHA256: sha256.Sum256(content)})
	}
	return parts
}

// inParts checks a bucket that takes objects in parts.
func inParts(t *testing.T, bucket attach.Bucket) {
	store, ok := bucket.(attach.PartBucket)
	if !ok {
		t.Skip("the bucket takes no objects in parts")
	}
	for _, size := range []int{1, 5<<20 + 1} {
		completed(t, store, size)
	}
	aborted(t, store)
}

func completed(t *testing.T, store attach.PartBucket, size int) {
	object := make([]byte, size)
	rand.Read(object)
	parts := partsOf(object)
	n := name(t, store)
	upload, err := store.BeginParts(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.AbortParts(context.WithoutCancel(t.Context()), n, upload) })
	list := func(want int) []attach.Part {
		t.Helper()
		list, err := store.ListParts(t.Context(), n, upload)
		if err != nil || len(list) != want {
			t.Fatalf("ListParts() = %d parts, %v, want %d", len(list), err, want)
		}
		return list
	}
	list(0)
	if o, err := store.Open(t.Context(), n); err == nil {
		o.Close()
		t.Error("an object can be opened before its parts are together")
	}
	for i := len(parts) - 1; i >= 0; i-- { // the last one first, each twice
		for range 2 {
			p := parts[i]
			if err := store.PutPart(t.Context(), n, upload, p, object[p.Offset:][:p.Size]); err != nil {
				t.Fatal(err)
			}
		}
	}
	stored := list(len(parts))
	for i, p := range stored {
		if p.Number != i+1 || p.Size != parts[i].Size || p.SHA256 != [sha256.Size]byte{} && p.SHA256 != parts[i].SHA256 {
			t.Errorf("part %d is %+v, want %+v", i+1, p, parts[i])
		}
		parts[i].Tag = p.Tag
	}
	if err := store.CompleteParts(t.Context(), n, upload, parts); err != nil {
		t.Fatal(err)
	}
	if _, err := store.ListParts(t.Context(), n, upload); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ListParts() after CompleteParts = %v, want fs.ErrNotExist", err)
	}
	if err := store.AbortParts(t.Context(), n, upload); err != nil {
		t.Errorf("AbortParts() after CompleteParts = %v", err)
	}
	o, err := store.Open(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if got, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size())); err != nil || !bytes.Equal(got, object) {
		t.Errorf("the object is %d bytes, %v, want %d others", len(got), err, size)
	}
}

// aborted checks that nothing is left, also of an upload whose name was lost.
func aborted(t *testing.T, store attach.PartBucket) {
	for _, known := range []bool{true, false} {
		n := name(t, store)
		upload, err := store.BeginParts(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		content := []byte("content")
		p := partsOf(content)[0]
		if err := store.PutPart(t.Context(), n, upload, p, content); err != nil {
			t.Fatal(err)
		}
		named := upload
		if !known {
			named = ""
		}
		for range 2 {
			if err := store.AbortParts(t.Context(), n, named); err != nil {
				t.Errorf("AbortParts(%q) = %v", named, err)
			}
		}
		if err := store.PutPart(t.Context(), n, upload, p, content); err == nil {
			t.Error("PutPart after AbortParts works")
		}
		if _, err := store.ListParts(t.Context(), n, upload); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ListParts() after AbortParts = %v, want fs.ErrNotExist", err)
		}
	}
}
