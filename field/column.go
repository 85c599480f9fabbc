package field

import (
	"database/sql/driver"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// state is the state of a field.
type state uint8

const (
	unset  state = iota // neither read nor set
	null                // NULL
	plain               // a plaintext that was set but not sealed
	closed              // a ciphertext
	opened              // a ciphertext and its plaintext
)

// stored is the content of a column.
type stored struct {
	null   bool
	binary bool   // bytes in the database, otherwise text
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

// same compares contents. It ignores whether a driver delivered text as a string
// or as bytes.
func (s stored) same(other stored) bool { return s.null == other.null && s.text == other.text }

// head is a field without its plaintext: what a model needs to decide what to
// do.
type head struct {
	redacted
	state  state
	set    bool            // set to NULL since it was read or sealed
	nulled bool            // the same since it was read: written even over NULL, since another program may have set it
	filled bool            // filled with NULL, because the program did not set it
	read   bool            // read from the database
	again  bool            // encrypted again: the column changes and the value does not
	old    oldState        // relation to the field that it replaces
	stored stored          // the new content of the column in states null, closed and opened
	loaded stored          // what was read, or what the database is known to hold since
	sent   *sent           // what the column may hold instead; nil means nothing else
	was    *[]driver.Value // what the plain column that it replaces may hold, the newest last; nil means unknown
	lazy   *lazyField
	kept   secret.Pointer[kept] // where the value can be changed in place
}

// scan stores a copy of a column from a database driver.
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

// waits reports whether the column is NULL, but its value is that of a field which
// was not opened yet: see [Model.OpenLazily].
func (h *head) waits() bool {
	return h.lazy != nil && h.lazy.spec.takesOld() && h.old == oldAlone && !h.set && !h.nulled
}

// ciphertext reports whether the field holds a ciphertext.
func (h *head) ciphertext() bool { return h.state == closed || h.state == opened }

// readValue reports whether the column was not NULL when it was last known.
func (h *head) readValue() bool { return h.read && !h.loaded.null }
