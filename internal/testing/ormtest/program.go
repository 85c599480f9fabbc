package ormtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// programs runs random programs beside a map of what the table should hold. Records
// are held for long, so that what others do comes between.
func programs(t *testing.T, w *work) {
	const seeds, steps = 6, 40
	ran := make(map[string]int)
	for seed := range uint64(seeds) {
		_, err := w.SQL.Exec("DELETE FROM " + Table)
		must(t, err)
		p := &program{work: w, t: t, rand: rand.New(rand.NewPCG(seed, 0)), rows: make(map[int64]Values), conflicts: make(map[int64]bool), ran: ran}
		for range steps {
			p.step()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		p.end()
	}
	t.Logf("%d programs ran %v", seeds, ran)
}

type program struct {
	*work
	t    *testing.T
	rand *rand.Rand
	rows map[int64]Values // as committed
	held []Record
	// conflicts are rows whose held record must not be written.
	conflicts map[int64]bool
	n         int
	ran       map[string]int
}

func (p *program) step() {
	actions := []struct {
		name string
		do   func()
	}{
		{"insert", p.insert}, {"update", p.update}, {"update", p.update}, {"move", p.move}, {"rotation", p.rotation},
		{"rollback", p.rolledBack}, {"read", p.read}, {"delete", p.delete}, {"lookup", p.lookup},
	}
	a := actions[p.rand.IntN(len(actions))]
	if len(p.held) == 0 {
		a = actions[0]
	}
	p.ran[a.name]++
	a.do()
}

// next returns a value for a column, or NULL.
func (p *program) next(make func(int) *string) *string {
	switch p.n++; p.rand.IntN(6) {
	case 0:
		return nil
	case 1:
		return new("")
	}
	return make(p.n)
}

func (p *program) pick() (int, Record) {
	i := p.rand.IntN(len(p.held))
	return i, p.held[i]
}

func (p *program) insert() {
	n := 1 + p.rand.IntN(3)
	rows, values := make([]Record, n), make([]Values, n)
	for i := range n {
		values[i] = Values{Tenant: "a", Email: p.next(email), Phone: p.next(phone), Nickname: p.next(nickname)}
		values[i].Name = fmt.Sprint("row", p.n)
		id := int64(0)
		if p.rand.IntN(3) == 0 {
			id = int64(7_000_000 + p.rand.IntN(1_000_000_000))
		}
		rows[i] = p.DB.New(id, values[i])
	}
	if p.rand.IntN(3) == 0 {
		p.retried(p.t, func(tx DB) error { return tx.Insert(p.ctx, rows...) })
	} else {
		must(p.t, p.DB.Insert(p.ctx, rows...))
	}
	for i, r := range rows {
		p.rows[r.ID()] = values[i]
		p.held = append(p.held, r)
	}
}

// update changes a held record, which may be stale.
func (p *program) update() {
	i, r := p.pick()
	want := p.rows[r.ID()]
	which := p.rand.IntN(4)
	if which == 3 {
		want.Nickname = p.next(nickname)
		r.SetNickname(want.Nickname)
	}
	if which != 1 {
		want.Email = p.next(email)
		r.SetEmail(want.Email)
	}
	if which != 0 {
		want.Phone = p.next(phone)
		r.SetPhone(want.Phone)
	}
	p.written(i, r, want, p.DB.Update(p.ctx, r))
}

func (p *program) move() {
	i, r := p.pick()
	want := p.rows[r.ID()]
	want.Tenant = []string{"a", "ab", "b"}[p.rand.IntN(3)]
	r.SetTenant(want.Tenant)
	p.written(i, r, want, p.DB.Update(p.ctx, r))
}

// written notes the outcome of a write. A stale record may conflict, and then nothing
// was written; it is read again.
func (p *program) written(i int, r Record, want Values, err error) {
	id := r.ID()
	switch {
	case err == nil:
		p.rows[id] = want
	case errors.Is(err, kmsencrypted.ErrConflict) && p.conflicts[id]:
		p.ran["conflict"]++
		p.held[i] = p.find(p.t, id)
		delete(p.conflicts, id)
	default:
		p.t.Errorf("Update of row %d: %v", id, err)
		return
	}
	p.want(p.t, "the row", id, p.rows[id])
}

func (p *program) rotation() {
	_, r := p.pick()
	if p.rand.IntN(2) == 0 {
		p.rewrap(p.t, r.ID())
	} else {
		p.rekey(p.t, r.ID())
	}
	p.conflicts[r.ID()] = true
	p.want(p.t, "rotated", r.ID(), p.rows[r.ID()])
}

// rolledBack writes a record that was just read in a transaction, twice.
func (p *program) rolledBack() {
	i, r := p.pick()
	r = p.find(p.t, r.ID())
	p.held[i] = r
	want := p.rows[r.ID()]
	want.Email, want.Note = p.next(email), fmt.Sprint("note", p.n)
	r.SetEmail(want.Email)
	r.SetNote(want.Note)
	p.retried(p.t, func(tx DB) error { return tx.Update(p.ctx, r) })
	p.rows[r.ID()] = want
	p.conflicts[r.ID()] = true // what was sent is compared until it is read again
	p.want(p.t, "written after a rollback", r.ID(), want)
}

func (p *program) read() {
	i, r := p.pick()
	p.held[i] = p.find(p.t, r.ID())
	delete(p.conflicts, r.ID())
	holds(p.t, "read", p.held[i], p.rows[r.ID()])
}

func (p *program) delete() {
	i, r := p.pick()
	must(p.t, p.DB.Delete(p.ctx, r))
	delete(p.rows, r.ID())
	delete(p.conflicts, r.ID())
	p.held = slices.Delete(p.held, i, i+1)
}

func (p *program) lookup() {
	_, r := p.pick()
	held := p.rows[r.ID()]
	for name, want := range map[string]*string{"Email": held.Email, "Nickname": held.Nickname} {
		if want == nil || *want == "" {
			continue
		}
		found, err := p.DB.Lookup(p.ctx, name, *want)
		must(p.t, err)
		if len(found) != 1 || found[0].ID() != r.ID() {
			p.t.Errorf("Lookup of %s found %d rows", name, len(found))
		}
	}
}

// end reads all that is left, with the library and as another program.
func (p *program) end() {
	all, err := p.DB.All(p.ctx)
	must(p.t, err)
	if len(all) != len(p.rows) {
		p.t.Errorf("%d rows, want %d", len(all), len(p.rows))
	}
	for _, r := range all {
		holds(p.t, "at the end", r, p.rows[r.ID()])
		p.want(p.t, "at the end", r.ID(), p.rows[r.ID()])
	}
}
