package programs

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// Switches for what the library does not do yet.
const (
	// inPlace: programs change maps and slices without Set.
	inPlace = true
	// respells: programs use texts in ids that the database spells otherwise than they
	// do, or takes for others.
	respells = true
)

// tenant is mostly one of those that fit into the column.
func (g *generator) tenant() string {
	tenants := tenantKinds[g.p.tenants].tenants
	n := len(tenants) - 1
	if g.oneIn(15) {
		return tenants[n]
	}
	return tenants[g.IntN(n)]
}

// ids are primary keys of each kind. An empty one is left to the database.
func ids(s server, kind string) []string {
	var list []string
	switch kind {
	case "number":
		return []string{"", "", "", "", "7"}
	case "pair":
		return []string{"0/0", "0/1", "1/0", "1/1", "-1/0", "2/3"}
	case "text":
		list = []string{"x", "y", "0", " x", "日", "a'b", "a/b"}
		if respells || s.dialect != field.MySQL {
			list = append(list, "X", "x ")
		}
	case "padded":
		list = []string{strings.Repeat("x", 40), strings.Repeat("y", 40)}
		if respells || s.dialect != field.Postgres {
			list = append(list, "x", "y")
		}
		if respells || s.dialect == field.SQLite {
			list = append(list, "x ")
		}
	case "uuid":
		list = []string{"123e4567-e89b-12d3-a456-426614174000", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"}
		if respells {
			list = append(list, "123E4567-E89B-12D3-A456-426614174000")
		}
	}
	return append(list, strings.Repeat("long", 12)) // than the column
}

// generator makes the program of a seed.
type generator struct {
	*rand.Rand
	server  server
	p       program
	process int // whose steps are made
	steps   []step
	values  int
}

// newProgram is the program of a seed on a server, whose name is part of the seed.
func newProgram(s server, seed uint64) program {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.name))
	g := &generator{Rand: rand.New(rand.NewPCG(seed, h.Sum64())), server: s}
	g.p.setting = g.setting()
	var streams [][]step
	for i := range g.p.processes {
		g.process, g.steps = i, nil
		if i == 0 || g.oneIn(2) {
			g.insert()
		}
		for n := 4 + g.IntN(5); n > 0; n-- {
			idioms[g.IntN(len(idioms))](g)
		}
		streams = append(streams, g.steps)
	}
	g.p.steps = g.mix(streams)
	return g.p
}

func (g *generator) setting() setting {
	s := setting{ids: pick(g, []string{"number", "number", "pair", "text", "uuid", "padded"}), place: pick(g, places), recordSeal: g.oneIn(5),
		tenants: pick(g, []string{"varchar", "varchar", "char", "uuid", "changed"})}
	for n := 1 + g.IntN(3); n > 0; n-- {
		s.processes = append(s.processes, processSetting{
			adapter: pick(g, []string{viaSqlX, viaGorm}),
			isOld:   g.oneIn(3), encryptOnly: g.oneIn(4), version: 1 + g.IntN(2),
		})
	}
	return s
}

// mix lets processes take turns at random, and keeps the order of each.
func (g *generator) mix(streams [][]step) (mixed []step) {
	for {
		streams = slices.DeleteFunc(streams, func(s []step) bool { return len(s) == 0 })
		if len(streams) == 0 {
			return mixed
		}
		i := g.IntN(len(streams))
		n := min(len(streams[i]), 1+g.IntN(4))
		mixed, streams[i] = append(mixed, streams[i][:n]...), streams[i][n:]
	}
}

func (g *generator) oneIn(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

func (g *generator) add(s step) {
	s.process = g.process
	g.steps = append(g.steps, s)
}

// value is one that no other step has, or an odd one.
func (g *generator) value() *string {
	odd := []string{"", "0", "null", "\x00", "\xff\xfe", "ÄÖ ß", "w", strings.Repeat("x", 300), strings.Repeat("y", 70_000)}
	switch {
	case g.oneIn(6):
		return nil
	case g.oneIn(5):
		return new(pick(g, odd))
	}
	g.values++
	return new(fmt.Sprintf("value %d", g.values))
}

// --- What programs do, as several steps that belong together.

var idioms = []func(*generator){
	(*generator).insert, (*generator).insert, (*generator).insert,
	(*generator).edit, (*generator).edit, (*generator).edit, (*generator).edit,
	(*generator).edit, (*generator).inTransaction, (*generator).inTransaction, (*generator).inTransaction,
	(*generator).move, (*generator).renew, (*generator).rotate, (*generator).remove, (*generator).single,
}

func (g *generator) insert() {
	v := g.IntN(3)
	g.add(step{do: "new", variable: v, id: pick(g, ids(g.server, g.p.ids)), value: new(g.tenant())})
	g.fill(v)
	g.repeated(func() { g.add(step{do: "insert", variable: v}) })
}

// fill sets some columns of a variable, or all.
func (g *generator) fill(v int) {
	all := g.oneIn(3)
	for _, c := range columns {
		if all || g.oneIn(2) {
			g.add(step{do: "set", variable: v, column: c.name, value: g.value()})
		}
	}
}

// edit reads a row, or goes on with what is in a variable, and writes a change.
func (g *generator) edit() {
	v := g.IntN(3)
	if !g.oneIn(3) {
		g.add(step{do: "read", variable: v, row: g.IntN(4)})
	}
	g.changes(v)
	g.repeated(func() { g.add(step{do: "update", variable: v, flag: g.oneIn(2)}) })
}

func (g *generator) changes(v int) {
	if inPlace && g.oneIn(3) {
		g.add(step{do: "change", variable: v, column: pick(g, []string{"blob", "tags"}), value: new(fmt.Sprintf("changed %d", g.IntN(1000)))})
	}
	if g.oneIn(3) {
		g.add(step{do: "title", variable: v, value: new(fmt.Sprintf("title %d", g.IntN(1000)))})
	}
	g.fill(v)
}

// move gives a record to another tenant.
func (g *generator) move() {
	v := g.IntN(3)
	g.add(step{do: "read", variable: v, row: g.IntN(4)})
	g.add(step{do: "move", variable: v, value: new(g.tenant())})
	if g.oneIn(2) {
		g.changes(v)
	}
	g.repeated(func() { g.add(step{do: "update", variable: v, flag: !g.oneIn(3)}) })
}

// renew rewraps or rekeys one record, perhaps one that has changed.
func (g *generator) renew() {
	v := g.IntN(3)
	if !g.oneIn(3) {
		g.add(step{do: "read", variable: v, row: g.IntN(4)})
	}
	if g.oneIn(4) {
		g.changes(v)
	}
	do := pick(g, []string{"rewrap", "rekey"})
	g.repeated(func() { g.add(step{do: do, variable: v}) })
}

func (g *generator) rotate() { g.add(step{do: "rotate", flag: g.oneIn(2)}) }

func (g *generator) remove() {
	v := g.IntN(3)
	if g.oneIn(2) {
		g.add(step{do: "read", variable: v, row: g.IntN(4)})
	}
	g.add(step{do: "delete", variable: v})
}

// single is any step in any position.
func (g *generator) single() {
	do := pick(g, []string{"read", "update", "insert", "begin", "commit", "rollback", "savepoint", "undo", "rewrap", "rekey"})
	g.add(step{do: do, variable: g.IntN(3), row: g.IntN(4), flag: g.oneIn(2)})
}

// repeated makes a call; often in a transaction that is rolled back, to a savepoint
// or as a whole, and then once more with the same record, as a program does after a
// serialization failure.
func (g *generator) repeated(call func()) {
	begin, end := "begin", "rollback"
	if g.oneIn(2) {
		begin, end = "savepoint", "undo"
	}
	if !g.oneIn(3) {
		call()
		return
	}
	g.add(step{do: "begin"})
	g.add(step{do: begin}) // begin twice is begin
	call()
	g.add(step{do: end})
	if g.oneIn(2) {
		g.add(step{do: "begin"})
	}
	call()
	g.add(step{do: pick(g, []string{"commit", "commit", "commit", "rollback"})})
}

// inTransaction does several things in one transaction.
func (g *generator) inTransaction() {
	g.add(step{do: "begin"})
	for n := 1 + g.IntN(3); n > 0; n-- {
		pick(g, []func(*generator){(*generator).insert, (*generator).edit, (*generator).edit, (*generator).move, (*generator).renew})(g)
		switch {
		case g.oneIn(4):
			g.add(step{do: "savepoint"})
		case g.oneIn(4):
			g.add(step{do: "undo"})
		}
	}
	g.add(step{do: pick(g, []string{"commit", "commit", "commit", "rollback"})})
}
