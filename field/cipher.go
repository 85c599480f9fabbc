package field

import "sync"

// recordCipher seals and opens the columns under one data key, in the form that
// the version of the key column sets: native or Ruby's.
type recordCipher interface {
	// codec is how the values of a column become plaintext bytes in this form.
	codec(*fieldSpec) *codec
	// seal returns what is to be stored for plaintext. associated is what the
	// tag ad= names, for Ruby's forms; native columns have their own.
	seal(f *fieldSpec, plaintext, associated []byte, buf *scratch) (columns, error)
	// open returns the plaintext, which lies in buf.
	open(f *fieldSpec, c columns, associated []byte, buf *scratch) (plaintext []byte, err error)
}

// columns is what is stored of one field: its column and, in attr_encrypted's
// form, those of iv and salt beside it.
type columns struct {
	value stored
	parts *parts // nil: both NULL
}

type parts struct{ iv, salt stored }

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
