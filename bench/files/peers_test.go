package files

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// What is compared does the same, and refuses what was changed.
func TestPeersReadWhatTheyWrite(t *testing.T) {
	t.Parallel()
	plaintext := limit.Random(3<<20 + 777)
	for _, p := range append(peers(), ours(1), ours(2)) {
		object := objectOf(t, p, plaintext)
		r, err := p.decrypted(object)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%s: %d bytes, %v", p.name, len(got), err)
		}
		if p.at != nil {
			testRanges(t, p, object, plaintext)
		}
		flip(t, object, 2<<20)
		if r, err = p.decrypted(object); err == nil {
			_, err = io.ReadAll(r)
		}
		if err == nil {
			t.Errorf("%s: a changed object opens", p.name)
		}
	}
}

func testRanges(t *testing.T, p peer, object *os.File, plaintext []byte) {
	t.Helper()
	at, err := p.opened(object)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int{0, 1, 16384, 65535, 1 << 20, 3<<20 - 5} {
		for _, n := range []int{1, 4096, 65536} {
			n = min(n, len(plaintext)-off)
			b := make([]byte, n)
			if m, err := at.ReadAt(b, int64(off)); m != n || err != nil && err != io.EOF || !bytes.Equal(b, plaintext[off:][:n]) {
				t.Errorf("%s: %d bytes at %d: %d, %v", p.name, n, off, m, err)
			}
		}
	}
}

// Only random access of sio and sio-go does not notice that an object was cut between
// two pieces.
func TestCutObjects(t *testing.T) {
	t.Parallel()
	const mebibyte = 1 << 20
	for _, c := range []struct {
		peer         peer
		piece, extra int64 // bytes of plaintext in a piece, and what its tag adds
		blind        bool
	}{
		{minio(), 64 << 10, 32, true},
		{secureIO(), 16 << 10, 16, true},
		{ageX25519(), 64 << 10, 16, false},
		{ours(1), 16 << 10, 16, false},
	} {
		object := objectOf(t, c.peer, make([]byte, 2*mebibyte))
		info, err := object.Stat()
		if err != nil {
			t.Fatal(err)
		}
		half := mebibyte / c.piece * (c.piece + c.extra)
		header := info.Size() - 2*half
		if header < 0 || header > 512 {
			t.Fatalf("%s: %d bytes of 2 MiB are no pieces", c.peer.name, header)
		}
		if err := object.Truncate(header + half); err != nil {
			t.Fatal(err)
		}
		r, err := c.peer.decrypted(object)
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if err == nil {
			t.Errorf("%s: a cut object is read to its end", c.peer.name)
		}
		at, err := c.peer.opened(object)
		if err == nil {
			_, err = at.ReadAt(make([]byte, 4096), mebibyte/2)
		}
		if (err == nil) != c.blind {
			t.Errorf("%s: reading a range of a cut object: %v, want an error: %t", c.peer.name, err, !c.blind)
		}
	}
}

func objectOf(t *testing.T, p peer, plaintext []byte) *os.File {
	t.Helper()
	object, err := p.object(t.TempDir(), plaintext)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { object.Close() })
	return object
}

func flip(t *testing.T, object *os.File, at int64) {
	t.Helper()
	b := make([]byte, 1)
	if _, err := object.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := object.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}
