package field

import "sync"

// recordCipher seals and opens the columns under one data key, in the form of
// the key column's version: native or Ruby's.
type recordCipher interface {
	// codec returns the codec for the values of a column in this form.
	codec(*fieldSpec) *codec
	// seal returns the stored columns for plaintext. associated is the value of the
	// tag ad=, for Ruby's forms; native columns have their own.
	seal(f *fieldSpec, plaintext, associated []byte, buf *scratch) (columns, error)
	// open returns the plaintext, which is in buf.
	open(f *fieldSpec, c columns, associated []byte, buf *scratch) (plaintext []byte, err error)
}

// columns are the stored columns of one field: its own and, in attr_encrypted's
// form, those of iv and salt.
type columns struct {
	value stored
	parts *parts // nil if both are NULL
}

type parts struct{ iv, salt stored }

// scratch is memory used for one field after another. Its user must call
// release, which wipes the plaintext.
type scratch struct {
	plain, sealed, text []byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func newScratch() *scratch { return scratches.Get().(*scratch) }

func (b *scratch) release() {
	clear(b.plain[:cap(b.plain)])
	const keep = 64 << 10 // drop the buffer of a large value
	if cap(b.plain)+cap(b.sealed)+cap(b.text) < keep {
		scratches.Put(b)
	}
}
