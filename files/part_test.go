package files

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// inParts seals a file by a sealer for each part, of some chunks, in a random order.
func inParts(t testing.TB, k Key, prefix, file []byte, chunks int) []byte {
	t.Helper()
	count := (len(file)/ChunkSize + chunks) / chunks
	parts := make([][]byte, count)
	for _, n := range rand.Perm(count) {
		s, err := ResumePartSealer(k, prefix)
		if err != nil {
			t.Fatal(err)
		}
		first := n * chunks
		content := file[first*ChunkSize : min((first+chunks)*ChunkSize, len(file))]
		if parts[n], err = s.Seal(nil, content, int64(first), n == count-1); err != nil {
			t.Fatal(err)
		}
	}
	return slices.Concat(append([][]byte{prefix}, parts...)...)
}

// What is sealed in parts, in any order and of any size, is the object of the vectors.
func TestNativePartVectors(t *testing.T) {
	t.Parallel()
	for _, c := range loadNative[objectVector](t, "objects.json") {
		k, file := vectorKey(t, c.Key), sha3.SumSHAKE256([]byte(c.PlaintextLabel), c.PlaintextSize)
		s, err := partSealer(k, appendHeader(nil, ID(c.FileID)), c.Salt)
		if err != nil {
			t.Fatal(err)
		}
		if s.ID() != ID(c.FileID) {
			t.Errorf("%s: ID() = %v", c.Name, s.ID())
		}
		for _, chunks := range []int{1, 2, 3} {
			if sum := sha256.Sum256(inParts(t, k, s.Prefix(), file, chunks)); !bytes.Equal(sum[:], c.SHA256) {
				t.Errorf("%s in parts of %d chunks: SHA-256 %x, want %x", c.Name, chunks, sum, c.SHA256)
			}
		}
	}
}

// Somebody with the object key alone seals what the file key opens.
func TestObjectKey(t *testing.T) {
	t.Parallel()
	k := NewKey()
	s, err := NewPartSealer(k)
	if err != nil {
		t.Fatal(err)
	}
	file := make([]byte, 5*ChunkSize+77)
	for i := range file {
		file[i] = byte(i * i >> 8)
	}
	o, err := s.ObjectKey(k)
	if err != nil {
		t.Fatal(err)
	}
	prefix, key, nonce := o.Raw()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if text := fmt.Sprintf(verb, o); text != "[redacted]" {
			t.Errorf("%s prints %s", verb, text)
		}
		if text := fmt.Sprintf(verb, struct{ o ObjectKey }{o}); strings.Contains(text, fmt.Sprintf(verb, key)) {
			t.Errorf("%s prints the key inside a struct", verb)
		}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	object := bytes.Clone(prefix)
	for chunk, rest := uint32(0), file; ; chunk++ {
		n := min(ChunkSize, len(rest))
		iv := bytes.Clone(nonce)
		binary.BigEndian.PutUint32(iv[8:], binary.BigEndian.Uint32(iv[8:])^chunk)
		object = aead.Seal(object, iv, rest[:n], nil)
		if rest = rest[n:]; n < ChunkSize {
			break
		}
	}
	if !bytes.Equal(object, inParts(t, k, prefix, file, 2)) {
		t.Error("the object key seals another object")
	}
	r, err := NewReader(t.Context(), bytes.NewReader(object), k, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, file) {
		t.Errorf("the object holds %d bytes, %v", len(got), err)
	}
	o.Wipe()
	if prefix, key, nonce := o.Raw(); prefix != nil || key != nil || nonce != nil {
		t.Error("a wiped key has bytes")
	}
	if _, err := s.ObjectKey(NewKey()); !errors.Is(err, kmsencrypted.ErrDecrypt) {
		t.Errorf("ObjectKey(another key) = %v, want ErrDecrypt", err)
	}
}

func TestPartSealerRefuses(t *testing.T) {
	t.Parallel()
	k := NewKey()
	s, err := NewPartSealer(k)
	if err != nil {
		t.Fatal(err)
	}
	for name, seal := range map[string]func() ([]byte, error){
		"part of a chunk in the middle": func() ([]byte, error) { return s.Seal(nil, make([]byte, ChunkSize+1), 0, false) },
		"chunk -1":                      func() ([]byte, error) { return s.Seal(nil, nil, -1, true) },
		"zero sealer":                   func() ([]byte, error) { return new(PartSealer).Seal(nil, nil, 0, true) },
		"nil sealer":                    func() ([]byte, error) { return (*PartSealer)(nil).Seal(nil, nil, 0, true) },
	} {
		if _, err := seal(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	if _, err := s.Seal(nil, nil, maxChunks, true); !errors.Is(err, kmsencrypted.ErrTooLarge) {
		t.Errorf("chunk 2^32: %v, want ErrTooLarge", err)
	}
	prefix := s.Prefix()
	for i := range prefix {
		changed := bytes.Clone(prefix)
		changed[i] ^= 1
		want := kmsencrypted.ErrDecrypt
		switch {
		case i < len(magic):
			want = kmsencrypted.ErrNotCiphertext
		case i < idOffset:
			want = kmsencrypted.ErrMalformed
		}
		if _, err := ResumePartSealer(k, changed); !errors.Is(err, want) {
			t.Errorf("byte %d changed: %v, want %v", i, err, want)
		}
		if _, err := ResumePartSealer(k, prefix[:i]); !errors.Is(err, ErrTruncated) {
			t.Errorf("%d bytes: %v, want ErrTruncated", i, err)
		}
	}
	if _, err := ResumePartSealer(NewKey(), prefix); !errors.Is(err, kmsencrypted.ErrDecrypt) {
		t.Errorf("another key: %v, want ErrDecrypt", err)
	}
}
