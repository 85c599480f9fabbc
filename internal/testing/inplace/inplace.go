// Package inplace runs random programs that change the values of encrypted columns
// in place, and compares what a fresh process reads with what the variables of the
// program held when it wrote them.
package inplace

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// Node is a value with pointers, maps and slices in it.
type Node struct {
	Name string
	Tags []string
	Sub  map[string]*Node
}

// Doc is a record whose values can all be changed in place.
type Doc struct {
	ID      int64                        `db:"id" gorm:"primaryKey" bun:"id,pk,autoincrement"`
	Key     field.Key                    `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text" bun:"encrypted_kms_key"`
	Map     field.Of[map[string]string]  `db:"map_ciphertext" gorm:"column:map_ciphertext;type:text" bun:"map_ciphertext"`
	Node    field.Of[Node]               `db:"node_ciphertext" gorm:"column:node_ciphertext;type:text" bun:"node_ciphertext"`
	Bytes   field.Of[[]byte]             `db:"bytes_ciphertext" gorm:"column:bytes_ciphertext;type:text" bun:"bytes_ciphertext"`
	Raw     field.Of[json.RawMessage]    `db:"raw_ciphertext" gorm:"column:raw_ciphertext;type:text" kms:"type=json" bun:"raw_ciphertext"`
	List    field.Of[[]string]           `db:"list_ciphertext" gorm:"column:list_ciphertext;type:text" bun:"list_ciphertext"`
	Pointer field.Of[*Node]              `db:"pointer_ciphertext" gorm:"column:pointer_ciphertext;type:text" bun:"pointer_ciphertext"`
	Null    field.Of[sql.Null[[]string]] `db:"null_ciphertext" gorm:"column:null_ciphertext;type:text" bun:"null_ciphertext"`
	Any     field.Of[any]                `db:"any_ciphertext" gorm:"column:any_ciphertext;type:text" bun:"any_ciphertext"`
}

// TableName is for GORM.
func (Doc) TableName() string { return "docs" }

// Schema makes the table in SQLite.
const Schema = `CREATE TABLE docs (id integer PRIMARY KEY, encrypted_kms_key text, map_ciphertext text, node_ciphertext text,
	bytes_ciphertext text, raw_ciphertext text, list_ciphertext text, pointer_ciphertext text, null_ciphertext text, any_ciphertext text)`

// Store is a way of keeping records.
type Store struct {
	Insert, Update, Rekey func(context.Context, *Doc) error
	Read                  func(ctx context.Context, id int64) (Doc, error)
	Fresh                 func(ctx context.Context, id int64) (Doc, error) // by another process
}

// values are what a record holds, by field, in words: the only difference that
// does not count is that between words.
type values map[string]string

func valuesOf(d *Doc) values {
	v := make(values)
	put(v, "Map", d.Map)
	put(v, "Node", d.Node)
	put(v, "Bytes", d.Bytes)
	put(v, "Raw", d.Raw)
	put(v, "List", d.List)
	put(v, "Pointer", d.Pointer)
	put(v, "Null", d.Null)
	put(v, "Any", d.Any)
	return v
}

func put[T any](v values, name string, o field.Of[T]) {
	if o.IsNull() || !o.IsLoaded() {
		v[name] = "NULL"
		return
	}
	text, err := json.Marshal(o.Must()) //kmsvet:ignore it stays in the test
	if err != nil {
		panic(err)
	}
	v[name] = string(text)
}

// variable is a record of the program, and what its row is known to hold.
type variable struct {
	doc  Doc
	knew values
}

type program struct {
	*rand.Rand
	store Store
	id    int64
	row   values
	vars  []*variable
	log   []string
}

// Run runs a random program and returns what differs after it.
func Run(t *testing.T, seed uint64, s Store) {
	t.Helper()
	p := &program{Rand: rand.New(rand.NewPCG(seed, 1)), store: s}
	first := new(variable)
	for _, f := range fields {
		if p.IntN(4) > 0 {
			f.set(p, &first.doc)
		}
	}
	if err := s.Insert(t.Context(), &first.doc); err != nil {
		t.Fatalf("seed %d: insert: %v", seed, err)
	}
	first.knew = valuesOf(&first.doc)
	p.id, p.row, p.vars = first.doc.ID, first.knew, []*variable{first}
	for range 5 + p.IntN(25) {
		p.step(t)
	}
	fresh, err := s.Fresh(t.Context(), p.id)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	for name, got := range valuesOf(&fresh) {
		if got != p.row[name] {
			t.Errorf("seed %d: a fresh process reads %s = %s, the program last wrote %s: %v", seed, name, got, p.row[name], p.log)
		}
	}
}

func (p *program) step(t *testing.T) {
	ctx := t.Context()
	i := p.IntN(len(p.vars))
	v, f := p.vars[i], fields[p.IntN(len(fields))]
	say := func(format string, args ...any) {
		p.log = append(p.log, fmt.Sprintf("%d:", i)+fmt.Sprintf(format, args...))
	}
	switch n := p.IntN(20); {
	case n < 9:
		say("change %s", f.name)
		f.change(p, &v.doc)
	case n < 10:
		say("set %s", f.name)
		f.set(p, &v.doc)
	case n < 15:
		p.written(t, i, "update", p.store.Update(ctx, &v.doc))
	case n < 16:
		say("update cancelled")
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if p.store.Update(cancelled, &v.doc) == nil && len(p.changed(v)) > 0 {
			t.Errorf("an update under a context that was cancelled returned nil")
		}
	case n < 17 && p.store.Rekey != nil:
		p.written(t, i, "rekey", p.store.Rekey(ctx, &v.doc))
	case n < 18 && len(p.vars) < 3: // its maps are those of v
		say("copy")
		p.vars = append(p.vars, &variable{doc: v.doc, knew: v.knew})
	default:
		p.read(t, i)
	}
}

// changed lists the fields of a variable that its row is not known to hold.
func (p *program) changed(v *variable) (names []string) {
	for name, now := range valuesOf(&v.doc) {
		if now != v.knew[name] {
			names = append(names, name)
		}
	}
	return names
}

// written takes note of an acknowledged write. After an error the program reads again.
func (p *program) written(t *testing.T, i int, what string, err error) {
	v := p.vars[i]
	p.log = append(p.log, fmt.Sprintf("%d:%s=%v", i, what, err))
	if err != nil {
		if !errors.Is(err, kmsencrypted.ErrConflict) {
			t.Errorf("%v: %v", err, p.log)
		}
		p.read(t, i)
		return
	}
	now, row := valuesOf(&v.doc), make(values)
	for name := range now {
		row[name] = p.row[name]
		if now[name] != v.knew[name] {
			row[name] = now[name]
		}
	}
	p.row, v.knew = row, now
}

func (p *program) read(t *testing.T, i int) {
	p.log = append(p.log, fmt.Sprintf("%d:read", i))
	d, err := p.store.Read(t.Context(), p.id)
	if err != nil {
		t.Fatalf("read: %v: %v", err, p.log)
	}
	p.vars[i] = &variable{doc: d, knew: valuesOf(&d)}
}
