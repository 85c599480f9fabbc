package field

import (
	"errors"
	"sync"

	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// work is what one call of a model deals with: many records, each with a group
// of columns for each of its keys. It is taken from a pool, because for a record
// whose key is open it would cost more than the sealing.
type work struct {
	records []recordWork
	groups  []group
	slots   []slot
}

// recordWork is one record of a call. Nothing in the record changes before all
// its groups went through without an error.
type recordWork struct {
	record
	read  bool // any of its columns was read from the database
	isNew bool // it is not in the database yet
	err   error
}

// slot is one field of a group, and what is to become of its column.
type slot struct {
	spec *fieldSpec
	holder
	inField *head // of the holder, whose method costs more than a pointer
	changed bool
	state   state
	columns columns
	kept    secret.Pointer[kept]
}

func (s *slot) head() *head { return s.inField }

// anyField reports whether something holds for a field of the group.
func (g *group) anyField(holds func(*head) bool) bool {
	for i := range g.slots {
		if holds(g.slots[i].inField) {
			return true
		}
	}
	return false
}

var works = sync.Pool{New: func() any { return new(work) }}

// newWork lays out the groups of records. The caller releases it.
func newWork[R any](m *Model[R], rows []*R) *work {
	w := works.Get().(*work)
	keys := m.spec().keys
	fields := 0
	for _, k := range keys {
		fields += len(k.fields)
	}
	w.reserve(len(rows), len(rows)*len(keys), len(rows)*fields)
	for i, row := range rows {
		w.records[i].record = m.record(row)
		for _, k := range keys {
			w.addGroup(&w.records[i], k)
		}
	}
	return w
}

// reserve makes room, so that pointers into the lists stay valid.
func (w *work) reserve(records, groups, slots int) {
	if cap(w.records) < records {
		w.records = make([]recordWork, 0, records)
	}
	w.records = w.records[:records]
	if cap(w.groups) < groups {
		w.groups = make([]group, 0, groups)
	}
	if cap(w.slots) < slots {
		w.slots = make([]slot, 0, slots)
	}
}

func (w *work) addGroup(r *recordWork, k *keySpec) {
	from, to := len(w.slots), len(w.slots)+len(k.fields)
	w.slots = w.slots[:to]
	w.groups = w.groups[:len(w.groups)+1]
	// Both are zero: filled in place, since they are large to copy.
	g := &w.groups[len(w.groups)-1]
	g.recordWork, g.spec, g.slots = r, k, w.slots[from:to:to]
	for i, f := range k.fields {
		s := &g.slots[i]
		s.spec, s.holder = f, r.field(f)
		s.inField = s.holder.head()
	}
	if k.isMaster {
		g.cipher, g.key = r.schema.master, new(Key)
	} else {
		g.key = r.key(k)
	}
}

// release forgets the records and gives the memory back.
func (w *work) release() {
	const keep = 256 // groups; a page of records is not worth holding on to
	if cap(w.groups) > keep {
		return
	}
	clear(w.records)
	clear(w.groups)
	clear(w.slots)
	w.records, w.groups, w.slots = w.records[:0], w.groups[:0], w.slots[:0]
	works.Put(w)
}

// pick lists the groups with a need that met no error yet.
func (w *work) pick(n need) (picked []*group) {
	for i := range w.groups {
		if g := &w.groups[i]; g.need == n && g.err == nil {
			picked = append(picked, g)
		}
	}
	return picked
}

// outcome is one error for each record: all errors of its groups.
func (w *work) outcome() error {
	for i := range w.groups {
		if g := &w.groups[i]; g.err != nil {
			g.recordWork.err = errors.Join(g.recordWork.err, g.err)
		}
	}
	return failures(w.records)
}

// commit makes the changes of every record of which nothing failed.
func (w *work) commit() error {
	err := w.outcome()
	for i := range w.groups {
		if g := &w.groups[i]; g.recordWork.err == nil {
			g.commit()
		}
	}
	return err
}
