package field

import (
	"database/sql/driver"
	"slices"
)

// A transaction may be rolled back after its statements succeeded, and a
// connection may be lost before the answer to COMMIT. So a record distinguishes
// what the database is known to hold (head.loaded) from what was only sent
// (head.sent). The next write sends it again, with a condition: the column must
// still hold what was read, or one of the texts that this record has sent since.
// Otherwise another program wrote the column.

// sent is a text that was sent to a column, with those sent before it. It never
// changes, so that copies of a record can share it.
type sent struct {
	text    stored
	earlier *sent
	n       int
}

// maxSent limits the texts that a record remembers for a column. A row with a
// forgotten text is a conflict.
const maxSent = 16

// send remembers that the column may hold h.stored from now on.
func (h *head) send() {
	if h.sent != nil && h.sent.text.same(h.stored) {
		return
	}
	earlier, n := h.sent, 1
	if earlier != nil {
		n = earlier.n + 1
	}
	if n > maxSent {
		earlier, n = earlier.newest(maxSent/2), maxSent/2+1
	}
	h.sent = &sent{text: h.stored, earlier: earlier, n: n}
}

// newest returns the list of the last n texts.
func (s *sent) newest(n int) *sent {
	if s == nil || n == 0 {
		return nil
	}
	return &sent{text: s.text, earlier: s.earlier.newest(n - 1), n: min(n, s.n)}
}

// mayHold returns the texts that the column may hold. A row that was never read
// holds nothing yet.
func (h *head) mayHold() (texts []stored) {
	texts = append(texts, h.before())
	for s := h.sent; s != nil; s = s.earlier {
		if !s.text.same(h.before()) {
			texts = append(texts, s.text)
		}
	}
	return texts
}

// unchanged returns the condition that no other program wrote the column.
func (h *head) unchanged(column string) Assignment {
	a := Assignment{Column: column, Value: h.before().value()}
	if h.sent == nil {
		return a
	}
	for _, text := range h.mayHold()[1:] {
		a.Or = append(a.Or, text.value())
	}
	return a
}

// is reports whether now is one of the texts that this record knows for the
// column.
func (h *head) is(now stored) bool {
	for _, text := range h.mayHold() {
		if text.same(now) {
			return true
		}
	}
	return false
}

// Values returns the values that a condition of [Write.Where] allows: Value and
// Or.
func (a Assignment) Values() []driver.Value { return append([]driver.Value{a.Value}, a.Or...) }

// inserted is a row that was inserted in a transaction that may be rolled back.
type inserted struct {
	assignedID []string // made by the database; nil if the program set it
}

func (c *core) insertedRows(idAssigned bool, rows []any) {
	rows = c.present(rows)
	c.saved(rows) // if the row exists it holds this
	for _, row := range rows {
		r := c.record(row)
		mark := new(inserted)
		if idAssigned {
			mark.assignedID = r.id()
		}
		for _, k := range c.schema.recordKeys() {
			r.key(k).inserted = mark
		}
	}
}

func (c *core) isUnconfirmed(row any) bool {
	if c.lacks(row) {
		return false
	}
	r := c.record(row)
	return slices.ContainsFunc(c.schema.recordKeys(), func(k *keySpec) bool { return r.key(k).inserted != nil })
}

func (c *core) dropAssignedIDs(rows []any) {
	for _, row := range c.present(rows) {
		r := c.record(row)
		for _, k := range c.schema.recordKeys() {
			mark := r.key(k).inserted
			if mark == nil || mark.assignedID == nil || !slices.Equal(mark.assignedID, r.id()) {
				continue
			}
			for _, id := range c.schema.ids {
				r.at(id.index).SetZero()
			}
		}
	}
}

// recordKeys returns the keys that have a column: all but the last, if that is not one.
func (s *schema) recordKeys() []*keySpec {
	if n := len(s.keys); n > 0 && s.keys[n-1].isMaster {
		return s.keys[: n-1 : n-1]
	}
	return s.keys[:len(s.keys):len(s.keys)]
}
