package lockbox

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

func TestReaderAt(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {Padding: 16}, {Padding: maxPadding}, {Algorithm: lockbox.XSalsa20, Padding: 64}} {
		codec, box := newCodecs(t, o)
		for _, n := range sizes {
			plaintext := pattern(n)
			object, err := box.Seal(nil, plaintext, nil)
			if err != nil {
				t.Fatal(err)
			}
			r, err := codec.NewReaderAt(t.Context(), bytes.NewReader(object), int64(len(object)), nil)
			if err != nil || r.Size() != int64(n) {
				t.Fatalf("%+v, %d bytes: NewReaderAt = %v", o, n, err)
			}
			if err := iotest.TestReader(io.NewSectionReader(r, 0, r.Size()), plaintext); err != nil {
				t.Errorf("%+v, %d bytes: %v", o, n, err)
			}
			for range 50 {
				at := rand.IntN(n + 1)
				p := make([]byte, rand.IntN(n+100))
				want := plaintext[at:min(n, at+len(p))]
				if got, err := r.ReadAt(p, int64(at)); !bytes.Equal(p[:got], want) || (got < len(p)) != (err == io.EOF) {
					t.Errorf("%+v: ReadAt(%d bytes, %d) of %d = %d, %v", o, len(p), at, n, got, err)
				}
			}
			r.Close()
		}
	}
}

// No byte comes out of an object that was changed, before it was opened or later.
func TestReaderAtChanged(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {Padding: 16}, {Algorithm: lockbox.XChaCha20}} {
		codec, box := newCodecs(t, o)
		object, err := box.Seal(nil, pattern(2*segmentSize+777), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, nonceSize, nonceSize + segmentSize, len(object) - tagSize - 1, len(object) - 1} {
			changed := bytes.Clone(object)
			changed[at] ^= 1
			if _, err := codec.NewReaderAt(t.Context(), bytes.NewReader(changed), int64(len(changed)), nil); !errors.Is(err, kmsencrypted.ErrDecrypt) {
				t.Errorf("%+v: NewReaderAt with byte %d changed = %v, want ErrDecrypt", o, at, err)
			}
		}
		for _, n := range []int{0, 27, 28, 40, 1000, len(object) - 1} {
			_, err := codec.NewReaderAt(t.Context(), bytes.NewReader(object), int64(n), nil)
			if !errors.Is(err, kmsencrypted.ErrDecrypt) && !errors.Is(err, kmsencrypted.ErrMalformed) {
				t.Errorf("%+v: NewReaderAt of %d bytes = %v, want a typed error", o, n, err)
			}
		}
		if o.Algorithm != "" {
			continue // in memory
		}
		later := bytes.Clone(object)
		r, err := codec.NewReaderAt(t.Context(), bytes.NewReader(later), int64(len(later)), nil)
		if err != nil {
			t.Fatal(err)
		}
		later[nonceSize+segmentSize+5] ^= 1
		p := make([]byte, 10)
		if n, err := r.ReadAt(p, segmentSize); n > 0 || !errors.Is(err, kmsencrypted.ErrDecrypt) {
			t.Errorf("ReadAt of a segment that was changed later = %d, %v, want ErrDecrypt", n, err)
		}
		if n, err := r.ReadAt(p, 0); n != len(p) || err != nil {
			t.Errorf("ReadAt of another segment = %d, %v", n, err)
		}
		copy(later[nonceSize:], object[nonceSize+segmentSize:][:segmentSize])
		if n, err := r.ReadAt(p, 2*segmentSize); n != len(p) || err != nil {
			t.Errorf("ReadAt = %d, %v", n, err)
		}
		if n, err := r.ReadAt(p, 0); n > 0 || !errors.Is(err, kmsencrypted.ErrDecrypt) {
			t.Errorf("ReadAt of a segment that was exchanged = %d, %v, want ErrDecrypt", n, err)
		}
	}
}
