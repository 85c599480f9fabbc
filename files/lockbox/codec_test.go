package lockbox

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

var testKey = bytes.Repeat([]byte{7}, lockbox.KeySize)

func newCodecs(t testing.TB, o Options) (*Codec, *lockbox.Box) {
	t.Helper()
	c, err := New(testKey, o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := lockbox.New(testKey, o.box())
	if err != nil {
		t.Fatal(err)
	}
	return c, b
}

func pattern(n int) []byte {
	out := make([]byte, n)
	x := uint32(n) + 1
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

// stream hides every method but Read, so that the source cannot seek.
type stream struct{ io.Reader }

func open(t testing.TB, c *Codec, object, ad []byte, seekable bool) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	var src io.Reader = bytes.NewReader(object)
	if !seekable {
		src = stream{src}
	}
	err := c.Open(t.Context(), &out, src, ad)
	return out.Bytes(), err
}

// What the Ruby gem stored is read, and written again byte for byte.
func TestFileVectors(t *testing.T) {
	t.Parallel()
	const file = "lockbox_files.json"
	var v struct {
		Cases []struct {
			Kind, Attribute string
			Key             vectors.Hex
			Algorithm       lockbox.Algorithm
			Padding         int
			AssociatedData  vectors.Value `json:"associated_data"`
			Plaintext       []byte        `json:"plaintext_b64"`
			Stored          []byte        `json:"stored_b64"`
		}
	}
	vectors.Load(t, file, &v)
	for _, c := range v.Cases {
		codec, err := New(c.Key, Options{Algorithm: c.Algorithm, Padding: c.Padding})
		if err != nil {
			t.Errorf("%s, %s: %v", c.Kind, c.Attribute, err)
			continue
		}
		ad := []byte(c.AssociatedData.Text)
		for _, seekable := range []bool{true, false} {
			if got, err := open(t, codec, c.Stored, ad, seekable); err != nil || !bytes.Equal(got, c.Plaintext) {
				t.Errorf("%s, %s: Open = %d bytes, %v, want %d", c.Kind, c.Attribute, len(got), err, len(c.Plaintext))
			}
		}
		if current := (*codec.hidden.Get())[0]; current.key != nil {
			var again bytes.Buffer
			if err := current.sealStream(t.Context(), &again, bytes.NewReader(c.Plaintext), c.Stored[:nonceSize], ad); err != nil || !bytes.Equal(again.Bytes(), c.Stored) {
				t.Errorf("%s, %s: sealed to other bytes, %v", c.Kind, c.Attribute, err)
			}
		}
	}
	vectors.Ran(t, file, len(v.Cases))
}

var sizes = []int{0, 1, 15, 16, 17, 1000, segmentSize - 16, segmentSize - 1, segmentSize, segmentSize + 1, 2*segmentSize + 777,
	spoolSize - nonceSize - tagSize - 1, spoolSize - nonceSize - tagSize, spoolSize - nonceSize, spoolSize, 2*spoolSize + 777}

// Codec and Box read each other, and for one nonce write the same.
func TestSameAsBox(t *testing.T) {
	t.Parallel()
	gcm := testGCM(t)
	for _, o := range []Options{
		{}, {Padding: 16}, {Padding: 10}, {Padding: 1}, {Padding: maxPadding}, {Algorithm: lockbox.XChaCha20}, {Algorithm: lockbox.XSalsa20, Padding: 100},
	} {
		codec, box := newCodecs(t, o)
		for _, n := range sizes {
			for _, ad := range [][]byte{nil, []byte("associated data")} {
				if o.Algorithm == lockbox.XSalsa20 && ad != nil {
					continue
				}
				plaintext := pattern(n)
				sealed, err := box.Seal(nil, plaintext, ad)
				if err != nil {
					t.Fatal(err)
				}
				for _, seekable := range []bool{true, false} {
					if got, err := open(t, codec, sealed, ad, seekable); err != nil || !bytes.Equal(got, plaintext) {
						t.Errorf("%+v, %d bytes: Open of a box = %d bytes, %v", o, n, len(got), err)
					}
				}
				var object bytes.Buffer
				if err := codec.Seal(t.Context(), &object, iotest.HalfReader(bytes.NewReader(plaintext)), ad); err != nil {
					t.Fatal(err)
				}
				if got, err := box.Open(nil, object.Bytes(), ad); err != nil || !bytes.Equal(got, plaintext) {
					t.Errorf("%+v, %d bytes: Box.Open = %d bytes, %v", o, n, len(got), err)
				}
				if current := (*codec.hidden.Get())[0]; current.key != nil {
					// The box's padded plaintext, taken out of it without the codec.
					padded, err := gcm.Open(nil, sealed[:nonceSize], sealed[nonceSize:], ad)
					if err != nil || len(padded) < n {
						t.Fatal(err)
					}
					var again bytes.Buffer
					if err := current.sealStream(t.Context(), &again, bytes.NewReader(plaintext), sealed[:nonceSize], ad); err != nil || !bytes.Equal(again.Bytes(), sealed) {
						t.Errorf("%+v, %d bytes: sealed to other bytes than Box, %v", o, n, err)
					}
				}
			}
		}
	}
}

func testGCM(t testing.TB) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(testKey)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm
}

// Nothing at all comes out of an object that was changed anywhere.
func TestChanged(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {Padding: 16}, {Algorithm: lockbox.XChaCha20}} {
		codec, box := newCodecs(t, o)
		ad := []byte("associated data")
		object, err := box.Seal(nil, pattern(2*segmentSize+777), ad)
		if err != nil {
			t.Fatal(err)
		}
		refused := func(what string, object, ad []byte) {
			t.Helper()
			for _, seekable := range []bool{true, false} {
				got, err := open(t, codec, object, ad, seekable)
				if !errors.Is(err, kmsencrypted.ErrDecrypt) && (len(object) >= 40 || !errors.Is(err, kmsencrypted.ErrMalformed)) || len(got) > 0 {
					t.Errorf("%+v, %s: Open = %d bytes, %v, want none and a typed error", o, what, len(got), err)
				}
			}
		}
		for _, i := range []int{0, 11, 12, 100, nonceSize + segmentSize - 1, nonceSize + segmentSize, len(object) - 17, len(object) - 16, len(object) - 1} {
			changed := bytes.Clone(object)
			changed[i] ^= 0x10
			refused("bit flipped", changed, ad)
		}
		for _, n := range []int{0, 1, 11, 12, 27, 28, 29, 39, 40, 1000, nonceSize + segmentSize, nonceSize + segmentSize + tagSize, len(object) - 1} {
			refused("cut", object[:n], ad)
		}
		refused("a byte more", append(bytes.Clone(object), 0), ad)
		refused("other associated data", object, []byte("other"))
		refused("no associated data", object, nil)
		swapped := bytes.Clone(object)
		copy(swapped[nonceSize:], object[nonceSize+segmentSize:][:segmentSize])
		copy(swapped[nonceSize+segmentSize:], object[nonceSize:][:segmentSize])
		refused("segments exchanged", swapped, ad)
	}
}

// exchanging gives other bytes the second time.
type exchanging struct {
	*bytes.Reader
	second []byte
	seeks  int
}

func (e *exchanging) Seek(offset int64, whence int) (int64, error) {
	// Position, end, start of the first pass, start of the second.
	if e.seeks++; e.seeks == 4 {
		e.Reader = bytes.NewReader(e.second)
	}
	return e.Reader.Seek(offset, whence)
}

func TestChangedBetweenPasses(t *testing.T) {
	t.Parallel()
	for _, padding := range []int{0, 16} {
		codec, box := newCodecs(t, Options{Padding: padding})
		plaintext := pattern(2*segmentSize + 777)
		object, err := box.Seal(nil, plaintext, nil)
		if err != nil {
			t.Fatal(err)
		}
		for at, want := range map[int]int{nonceSize: 0, nonceSize + segmentSize: segmentSize, len(object) - tagSize - 1: 2 * segmentSize} {
			changed := bytes.Clone(object)
			changed[at] ^= 1
			for _, second := range [][]byte{changed, object[:at]} {
				var out bytes.Buffer
				err := codec.Open(t.Context(), &out, &exchanging{Reader: bytes.NewReader(object), second: second}, nil)
				if !errors.Is(err, kmsencrypted.ErrDecrypt) || !bytes.Equal(out.Bytes(), plaintext[:want]) {
					t.Errorf("changed at %d after the first pass: %d bytes, %v, want %d", at, out.Len(), err, want)
				}
			}
		}
	}
}

func TestPrevious(t *testing.T) {
	t.Parallel()
	oldKey := bytes.Repeat([]byte{8}, lockbox.KeySize)
	first, err := New(oldKey, Options{Padding: 16})
	if err != nil {
		t.Fatal(err)
	}
	second, err := New(oldKey, Options{Algorithm: lockbox.XSalsa20, Previous: []*Codec{first}})
	if err != nil {
		t.Fatal(err)
	}
	now, err := New(testKey, Options{Previous: []*Codec{second}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*Codec{"first": first, "second": second, "now": now} {
		var object bytes.Buffer
		if err := c.Seal(t.Context(), &object, bytes.NewReader(pattern(1000)), nil); err != nil {
			t.Fatal(err)
		}
		for _, seekable := range []bool{true, false} {
			if got, err := open(t, now, object.Bytes(), nil, seekable); err != nil || !bytes.Equal(got, pattern(1000)) {
				t.Errorf("object of %s: Open = %d bytes, %v", name, len(got), err)
			}
		}
	}
	// Too large for the algorithm of today is not too large for the one before.
	var large bytes.Buffer
	if err := first.Seal(t.Context(), &large, bytes.NewReader(pattern(5000)), nil); err != nil {
		t.Fatal(err)
	}
	tight, err := New(testKey, Options{Algorithm: lockbox.XChaCha20, MaxInMemory: 100, Previous: []*Codec{first}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, tight, large.Bytes(), nil, true); err != nil || !bytes.Equal(got, pattern(5000)) {
		t.Errorf("Open of a large object = %d bytes, %v", len(got), err)
	}
	other, _ := newCodecs(t, Options{Padding: 16})
	var object bytes.Buffer
	if err := first.Seal(t.Context(), &object, bytes.NewReader(nil), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, other, object.Bytes(), nil, true); !errors.Is(err, kmsencrypted.ErrDecrypt) {
		t.Errorf("Open under another key = %v, want ErrDecrypt", err)
	}
}

func TestHybrid(t *testing.T) {
	t.Parallel()
	encryption, decryption, err := lockbox.GenerateHybridKeys()
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := NewHybrid(encryption, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	opener, err := NewHybrid(nil, decryption, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var object bytes.Buffer
	if err := sealer.Seal(t.Context(), &object, bytes.NewReader(pattern(1000)), nil); err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, opener, object.Bytes(), nil, false); err != nil || !bytes.Equal(got, pattern(1000)) {
		t.Errorf("Open = %d bytes, %v", len(got), err)
	}
	if _, err := open(t, sealer, object.Bytes(), nil, true); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Open without the decryption key = %v, want ErrConfig", err)
	}
}

// failingWriter writes nothing.
type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestRefusals(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	broken := errors.New("broken")
	small, _ := newCodecs(t, Options{Algorithm: lockbox.XChaCha20, MaxInMemory: 1000})
	plain, _ := newCodecs(t, Options{})
	unbound, _ := newCodecs(t, Options{Unbound: true})
	boxed := bytes.NewBuffer(nil)
	if err := plain.Seal(t.Context(), boxed, bytes.NewReader(pattern(5000)), nil); err != nil {
		t.Fatal(err)
	}
	object := boxed.Bytes()
	for name, c := range map[string]struct {
		err, want error
	}{
		"seal too much":           {small.Seal(t.Context(), io.Discard, bytes.NewReader(pattern(1001)), nil), kmsencrypted.ErrTooLarge},
		"seal the most":           {small.Seal(t.Context(), io.Discard, bytes.NewReader(pattern(1000)), nil), nil},
		"open too much":           {small.Open(t.Context(), io.Discard, bytes.NewReader(object), nil), kmsencrypted.ErrTooLarge},
		"seal unbound":            {unbound.Seal(t.Context(), io.Discard, bytes.NewReader(nil), []byte("x")), kmsencrypted.ErrConfig},
		"open unbound":            {unbound.Open(t.Context(), io.Discard, bytes.NewReader(object), []byte("x")), nil},
		"seal, done":              {plain.Seal(canceled, io.Discard, bytes.NewReader(nil), nil), context.Canceled},
		"open, done":              {plain.Open(canceled, io.Discard, bytes.NewReader(object), nil), context.Canceled},
		"seal a failing source":   {plain.Seal(t.Context(), io.Discard, iotest.ErrReader(broken), nil), broken},
		"seal a broken upload":    {plain.Seal(t.Context(), io.Discard, iotest.ErrReader(io.ErrUnexpectedEOF), nil), io.ErrUnexpectedEOF},
		"open a failing source":   {plain.Open(t.Context(), io.Discard, io.MultiReader(bytes.NewReader(object), iotest.ErrReader(broken)), nil), broken},
		"seal to a failing place": {plain.Seal(t.Context(), failingWriter{broken}, bytes.NewReader(nil), nil), broken},
		"open to a failing place": {plain.Open(t.Context(), failingWriter{broken}, bytes.NewReader(object), nil), broken},
		"open to a short place":   {plain.Open(t.Context(), failingWriter{nil}, bytes.NewReader(object), nil), io.ErrShortWrite},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	for _, o := range []Options{{Padding: -1}, {MaxInMemory: -1}, {Algorithm: "x"}, {Previous: []*Codec{nil}}, {Algorithm: lockbox.Hybrid}} {
		if _, err := New(testKey, o); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("New(%+v) = %v, want ErrConfig", o, err)
		}
	}
}

// The temporary file holds ciphertext only, nobody else can read it, and it goes.
func TestTemporaryFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	codec, box := newCodecs(t, Options{TempDir: dir})
	object, err := box.Seal(nil, pattern(spoolSize), nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	look := func() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("mode of the temporary file = %v", info.Mode())
			}
			if data, err := os.ReadFile(dir + "/" + e.Name()); err != nil || !bytes.Equal(data, object) {
				t.Errorf("the temporary file is not the object, %v", err)
			}
			seen++
		}
	}
	if err := codec.Open(t.Context(), writerFunc(look), stream{bytes.NewReader(object)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := codec.Open(t.Context(), io.Discard, stream{io.MultiReader(bytes.NewReader(object[:len(object)-1]), iotest.ErrReader(io.ErrClosedPipe))}, nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Open = %v, want io.ErrClosedPipe", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 || seen == 0 {
		t.Errorf("%d temporary files left, %v; %d seen", len(entries), err, seen)
	}
}

type writerFunc func()

func (f writerFunc) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

// FuzzOpen: Codec and Box open the same objects, to the same files.
func FuzzOpen(f *testing.F) {
	for _, o := range []Options{{}, {Padding: 16}} {
		_, box := newCodecs(f, o)
		for _, n := range []int{0, 5, 100} {
			object, err := box.Seal(nil, pattern(n), nil)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(object, o.Padding > 0)
		}
	}
	f.Fuzz(func(t *testing.T, object []byte, padded bool) {
		o := Options{}
		if padded {
			o.Padding = 16
		}
		codec, box := newCodecs(t, o)
		want, werr := box.Open(nil, object, nil)
		for _, seekable := range []bool{true, false} {
			got, err := open(t, codec, object, nil, seekable)
			if !bytes.Equal(got, want) || errors.Is(err, kmsencrypted.ErrDecrypt) != errors.Is(werr, kmsencrypted.ErrDecrypt) || (err == nil) != (werr == nil) {
				t.Errorf("Open(%x) = %x, %v; Box %x, %v", object, got, err, want, werr)
			}
		}
	})
}
