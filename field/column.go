package field

import (
	"database/sql/driver"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// state says what a field holds.
type state uint8

const (
	unset  state = iota // neither read nor set
	null                // NULL
	plain               // a plaintext that was set and not sealed
	closed              // a ciphertext
	opened              // a ciphertext and its plaintext
)

// stored is the content of a column.
type stored struct {
	null   bool
	binary bool   // bytes in the database, else text
	text   string // immutable, so that copies of a record can share it
}

// nullColumn is NULL.
var nullColumn = stored{null: true}

func (s stored) value() driver.Value {
	switch {
	case s.null:
		return nil
	case s.binary:
		return []byte(s.text)
	}
	return s.text
}

// same compares contents. Drivers differ in whether text arrives as a string or
// as bytes, so that does not count.
func (s stored) same(other stored) bool { return s.null == other.null && s.text == other.text }

// head is a field without its plaintext: all that a model needs to know to
// decide what to do.
type head struct {
	state  state
	set    bool     // to NULL, since it was read or sealed
	filled bool     // with NULL, because the program said nothing about it
	read   bool     // from the database
	old    oldState // how it goes with the field that it replaces
	stored stored   // what is to be in the column: states null, closed and opened
	loaded stored   // what was read, or what the database is known to hold since
	sent   *sent    // what it may hold instead; nil: nothing else
	lazy   *lazyField
	kept   secret.Pointer[kept] // where the value can be changed in place
}

// scan takes a column as a database driver hands it over, copied.
func (h *head) scan(src any) error {
	*h = head{}
	read := stored{}
	switch v := src.(type) {
	case nil:
		read = nullColumn
	case string:
		read.text = v
	case []byte:
		read.text, read.binary = string(v), true
	default:
		return fmt.Errorf("%w: a column of type %T", kmsencrypted.ErrNotCiphertext, src)
	}
	h.state, h.read, h.stored, h.loaded = closed, true, read, read
	if read.null {
		h.state = null
	}
	return nil
}

// dirty reports whether the field was set to a value or to NULL since it was
// read or sealed.
func (h *head) dirty() bool { return h.state == plain || h.state == null && h.set }

// ciphertext reports whether the field holds one.
func (h *head) ciphertext() bool { return h.state == closed || h.state == opened }

// readCiphertext reports whether the row in the database held a ciphertext when
// it was last known.
func (h *head) readCiphertext() bool { return h.read && !h.loaded.null }
