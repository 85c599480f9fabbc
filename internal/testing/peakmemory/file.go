package peakmemory

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"testing"
)

// File returns a file of any size without storing it: the same bytes each time.
func File(size int64) io.Reader { return io.LimitReader(new(pseudoRandom), size) }

// CameBack fails unless got is what [File] returns.
func CameBack(t *testing.T, got io.Reader, size int64) {
	t.Helper()
	want, read := sha256.New(), sha256.New()
	if _, err := io.Copy(want, File(size)); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(read, got)
	if err != nil {
		t.Fatal(err)
	}
	if n != size || string(want.Sum(nil)) != string(read.Sum(nil)) {
		t.Errorf("%d bytes came back, not the %d that went in", n, size)
	}
}

// pseudoRandom repeats a block of a prime size.
type pseudoRandom struct{ at int }

var block = func() []byte {
	b := make([]byte, 65521)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}()

func (r *pseudoRandom) Read(p []byte) (n int, err error) {
	for n < len(p) {
		m := copy(p[n:], block[r.at:])
		n, r.at = n+m, (r.at+m)%len(block)
	}
	return n, nil
}
