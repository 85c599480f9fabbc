package field

import (
	"sync"

	"github.com/kmsencrypted/kmsencrypted"
)

// recordCipher seals and opens the columns under one data key, in the form that
// the version of the key column sets: native or Ruby's.
type recordCipher interface {
	// codec is how the values of a column become plaintext bytes in this form.
	codec(*fieldSpec) codec
	// seal returns what is to be stored for plaintext.
	seal(s *fieldSpec, plaintext []byte, buf *scratch) (stored, error)
	// open returns the plaintext, which lies in buf.
	open(s *fieldSpec, column stored, buf *scratch) (plaintext []byte, err error)
}

// newCipher is the cipher of a data key in a format.
func newCipher(k kmsencrypted.DataKey, format kmsencrypted.Format) (recordCipher, error) {
	return newNativeCipher(k)
}

// scratch is memory for the fields of one record after another. Whoever took it
// calls release, which wipes the plaintext.
type scratch struct {
	plain, sealed, text []byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func newScratch() *scratch { return scratches.Get().(*scratch) }

func (b *scratch) release() {
	clear(b.plain[:cap(b.plain)])
	const keep = 64 << 10 // a large value is not worth holding on to
	if cap(b.plain)+cap(b.sealed)+cap(b.text) < keep {
		scratches.Put(b)
	}
}
