package field

import (
	"database/sql/driver"
	"slices"
)

// A transaction may be rolled back after its statements succeeded, and a
// connection may be lost before the answer to a COMMIT arrives. So a record tells
// what the database is known to hold (head.loaded) from what it only sent there
// (head.sent). What was sent is written again by the next write, and compared:
// the column must still hold what was read, or one of the texts that this record
// sent since. Anything else was written by somebody else.

// sent is a text that was sent to a column, and those sent before it. It never
// changes, so that copies of a record can share it.
type sent struct {
	text    stored
	earlier *sent
	n       int
}

// maxSent bounds the texts that a record remembers of a column. A row that holds
// one that was forgotten is a conflict.
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

// newest is the list of the last n texts.
func (s *sent) newest(n int) *sent {
	if s == nil || n == 0 {
		return nil
	}
	return &sent{text: s.text, earlier: s.earlier.newest(n - 1), n: min(n, s.n)}
}

// mayHold lists what the column may hold: a row that was never read has nothing
// in it yet.
func (h *head) mayHold() (texts []stored) {
	texts = append(texts, h.before())
	for s := h.sent; s != nil; s = s.earlier {
		if !s.text.same(h.before()) {
			texts = append(texts, s.text)
		}
	}
	return texts
}

// unchanged is the condition that nobody else wrote the column.
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

// is reports whether the column holds one of the texts that this record knows of.
func (h *head) is(now stored) bool {
	for _, text := range h.mayHold() {
		if text.same(now) {
			return true
		}
	}
	return false
}

// Values lists what a condition of [Write.Where] allows: Value and Or.
func (a Assignment) Values() []driver.Value { return append([]driver.Value{a.Value}, a.Or...) }

// inserted is a row that was inserted in a transaction that may be rolled back.
type inserted struct {
	assignedID []string // that the database made; nil if the program gave it
}

func (m *Model[R]) insertedRows(idAssigned bool, rows []*R) {
	m.saved(rows) // if the row is there it holds this
	for _, row := range rows {
		r := m.record(row)
		mark := new(inserted)
		if idAssigned {
			mark.assignedID = r.id()
		}
		for _, k := range m.schema.recordKeys() {
			r.key(k).inserted = mark
		}
	}
}

func (m *Model[R]) isUnconfirmed(row *R) bool {
	r := m.record(row)
	return slices.ContainsFunc(m.schema.recordKeys(), func(k *keySpec) bool { return r.key(k).inserted != nil })
}

func (m *Model[R]) dropAssignedIDs(rows []*R) {
	for _, row := range rows {
		r := m.record(row)
		for _, k := range m.schema.recordKeys() {
			mark := r.key(k).inserted
			if mark == nil || mark.assignedID == nil || !slices.Equal(mark.assignedID, r.id()) {
				continue
			}
			for _, id := range m.schema.ids {
				r.at(id.index).SetZero()
			}
		}
	}
}

// recordKeys are the keys that have a column.
func (s *schema) recordKeys() []*keySpec {
	return slices.DeleteFunc(slices.Clone(s.keys), func(k *keySpec) bool { return k.isMaster })
}
