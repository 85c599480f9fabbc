package files

import (
	"bytes"
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// FuzzOpen: whatever the object, every way of reading agrees, and what opens is
// what sealing the result with the same salt and id gives.
func FuzzOpen(f *testing.F) {
	k := fixedKey(f, 1)
	for _, n := range []int{0, 5, ChunkSize, ChunkSize + 5} {
		object := sealBytes(f, k, pattern(n))
		f.Add(object)
		f.Add(object[:len(object)-1])
	}
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, object []byte) {
		want, werr := openers["Read"](t, k, object)
		for name, open := range openers {
			got, err := open(t, k, object)
			if (err == nil) != (werr == nil) || err == nil && !bytes.Equal(got, want) {
				t.Errorf("%s = %d bytes, %v; Read = %d bytes, %v", name, len(got), err, len(want), werr)
			}
			if err != nil && !isTyped(err) {
				t.Errorf("%s: error = %v, want a typed one", name, err)
			}
		}
		if werr != nil {
			return
		}
		var again bytes.Buffer
		w, err := sealObject(t.Context(), &again, k, Options{}, ID(object[idOffset:]), object[HeaderSize:][:saltSize])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(want); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil || !bytes.Equal(again.Bytes(), object) {
			t.Errorf("sealing again gives other bytes, %v", err)
		}
	})
}

// FuzzHeader: a header that is read is the one that is written.
func FuzzHeader(f *testing.F) {
	f.Add(appendHeader(nil, NewID()))
	f.Add([]byte(magic + fixedFields))
	f.Add([]byte("%PDF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := ReadID(bytes.NewReader(data))
		if err == nil && !bytes.HasPrefix(data, appendHeader(nil, id)) {
			t.Errorf("ReadID(%x) = %s, which is written in another way", data, id)
		}
		if err != nil && !isTyped(err) {
			t.Errorf("ReadID(%x) = %v, want a typed error", data, err)
		}
	})
}

// FuzzUnwrapKey: nothing but what WrapKey wrote opens.
func FuzzUnwrapKey(f *testing.F) {
	dataKey := kmsencrypted.NewDataKey()
	good, err := WrapKey(dataKey, fixedKey(f, 1), place)
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{good, good[:40], good + "A", wrapPrefix, "v1:AAAA"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := UnwrapKey(dataKey, text, place)
		if (err == nil) != (text == good) {
			t.Errorf("UnwrapKey(%q) = %v", text, err)
		}
		if err != nil && (!isTyped(err) || !errors.Is(k.use(nil), kmsencrypted.ErrWiped)) {
			t.Errorf("UnwrapKey(%q) = a key, %v", text, err)
		}
	})
}
