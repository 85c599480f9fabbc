package field

import (
	"errors"
	"runtime"
	"sync"

	"github.com/kmsencrypted/kmsencrypted/internal/parallel"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// work is the state of one call of a model: many records, each with a group of
// columns for each of its keys. It comes from a pool, because allocating it would
// cost more than sealing a record whose key is open.
type work struct {
	records []recordWork
	groups  []group
	slots   []slot
}

// recordWork is one record of a call. The record changes only after all its
// groups succeeded.
type recordWork struct {
	record
	read  bool // whether any of its columns was read from the database
	isNew bool // whether it is not in the database yet
	err   error
}

// slot is one field of a group, with the new content of its column.
type slot struct {
	redacted
	spec *fieldSpec
	holder
	inField *head // of the holder, because calling its method costs more than a pointer
	changed bool
	state   state
	columns columns
	kept    secret.Pointer[kept]
}

func (s *slot) head() *head { return s.inField }

// anyField reports whether holds is true for a field of the group.
func (g *group) anyField(holds func(*head) bool) bool {
	for i := range g.slots {
		if holds(g.slots[i].inField) {
			return true
		}
	}
	return false
}

var works = sync.Pool{New: func() any { return new(work) }}

// newWork makes the groups of records. The caller must release it.
func (c *core) newWork(rows []any) *work {
	w := works.Get().(*work)
	keys := c.spec().keys
	fields := 0
	for _, k := range keys {
		fields += len(k.fields)
	}
	w.reserve(len(rows), len(rows)*len(keys), len(rows)*fields)
	for i, row := range rows {
		w.records[i].record = c.record(row)
		for _, k := range keys {
			w.addGroup(&w.records[i], k)
		}
	}
	return w
}

// reserve allocates room, so that pointers into the lists stay valid.
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
	// Both are zero: fill them in place, because they are large to copy.
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

// recordsTogether are sealed or opened by one goroutine: fewer are not worth another one.
const recordsTogether = 32

// cores is how many may seal or open records at once: all, unless one is listed twice.
func (c *core) cores(rows []any) int {
	if len(rows) <= recordsTogether || c.distinct(rows) != nil {
		return 1
	}
	return runtime.GOMAXPROCS(0)
}

// each calls f for every group, with a buffer, on several cores. The groups of one record
// come one after the other.
func (w *work) each(cores int, f func(*group, *scratch)) {
	if cores == 1 {
		eachOf(w.groups, f)
		return
	}
	keys := len(w.groups) / max(len(w.records), 1)
	parallel.Parts(len(w.groups), recordsTogether*max(keys, 1), cores, func(from, to int) { eachOf(w.groups[from:to], f) })
}

func eachOf(groups []group, f func(*group, *scratch)) {
	buf := newScratch()
	defer buf.release()
	for i := range groups {
		f(&groups[i], buf)
	}
}

// release forgets the records and returns the memory to the pool.
func (w *work) release() {
	const keep = 1024 // groups, some 600 bytes each; more than a page of records are not kept
	if cap(w.groups) > keep {
		return
	}
	clear(w.records)
	clear(w.groups)
	clear(w.slots)
	w.records, w.groups, w.slots = w.records[:0], w.groups[:0], w.slots[:0]
	works.Put(w)
}

// pick returns the groups with a need and without an error.
func (w *work) pick(n need) (picked []*group) {
	for i := range w.groups {
		if g := &w.groups[i]; g.need == n && g.err == nil {
			picked = append(picked, g)
		}
	}
	return picked
}

// outcome returns one error for each record, which joins those of its groups.
func (w *work) outcome() error {
	for i := range w.groups {
		if g := &w.groups[i]; g.err != nil {
			g.recordWork.err = errors.Join(g.recordWork.err, g.err)
		}
	}
	return failures(w.records)
}

// commit applies the changes of every record without an error.
func (w *work) commit() error {
	err := w.outcome()
	for i := range w.groups {
		if g := &w.groups[i]; g.recordWork.err == nil {
			g.commit()
		}
	}
	return err
}
