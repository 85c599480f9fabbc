package field_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// counted is a value whose methods see what the model does.
type counted struct{ N int64 }

var (
	decoded atomic.Int64
	armed   atomic.Bool // the value 77 panics
)

func (c counted) MarshalText() ([]byte, error) { return fmt.Append(nil, c.N), nil }

func (c *counted) UnmarshalText(text []byte) error {
	decoded.Add(1)
	if _, err := fmt.Sscan(string(text), &c.N); err != nil {
		return err
	}
	if c.N == 77 && armed.Load() {
		panic("a program's own method")
	}
	return nil
}

type countedRow struct {
	ID   int64             `db:"id"`
	Key  field.Key         `db:"encrypted_kms_key"`
	N    field.Of[counted] `db:"n_ciphertext"`
	Note field.Of[string]  `db:"note_ciphertext"`
}

// Many records are sealed and opened at once: each has its own result, whichever others
// fail, and a record that is listed twice is opened once.
func TestLargePage(t *testing.T) {
	for name, cache := range map[string]*kmsencrypted.CacheConfig{"no cache": nil, "cache": {}} {
		t.Run(name, func(t *testing.T) {
			box, err := kmsencrypted.Config{Current: 1, Cache: cache, Versions: map[int]kmsencrypted.Version{1: {Provider: testkey.New()}}}.Box()
			must(t, err)
			m := newModel[countedRow](t, box, field.Config{Table: "counted"})
			const n = 500
			sealed := make([]countedRow, n)
			for i := range sealed {
				sealed[i] = countedRow{ID: int64(i + 1), N: field.New(counted{1000 + int64(i)}), Note: field.New(fmt.Sprint("note ", i))}
			}
			must(t, m.SealNew(t.Context(), field.Pointers(sealed)...))
			read := func(i int) *countedRow {
				r := &countedRow{ID: int64(i + 1)}
				must(t, r.Key.Scan(column(t, sealed[i].Key)))
				must(t, r.N.Scan(column(t, sealed[i].N)))
				must(t, r.Note.Scan(column(t, sealed[i].Note)))
				return r
			}
			rows := make([]*countedRow, n)
			for i := range rows {
				rows[i] = read(i)
				if i%50 == 7 { // the note of another record
					must(t, rows[i].Note.Scan(column(t, sealed[i+1].Note)))
				}
			}
			twice := append(rows, rows[3])
			decoded.Store(0)
			failed, ok := errors.AsType[field.Failures](m.Open(t.Context(), twice...))
			if !ok || len(failed) != n/50 || decoded.Load() != n {
				t.Fatalf("%d records fail and %d values were decoded, want %d and %d", len(failed), decoded.Load(), n/50, n)
			}
			for i, r := range rows {
				v, err := r.N.Get()
				if v.N != 1000+int64(i) || err != nil {
					t.Errorf("record %d has %d, %v", i, v.N, err)
				}
				if note, err := r.Note.Get(); (i%50 == 7) != errors.Is(err, kmsencrypted.ErrNotOpened) || err == nil && note != fmt.Sprint("note ", i) {
					t.Errorf("record %d has the note %q, %v", i, note, err)
				}
			}
		})
	}
}

// A program can recover from a panic in its own method, wherever its record is opened.
func TestLargePagePanics(t *testing.T) {
	m := newModel[countedRow](t, nativeBox(t, kmsencrypted.Version{Provider: testkey.New()}), field.Config{Table: "counted"})
	sealed := make([]countedRow, 200)
	for i := range sealed {
		sealed[i] = countedRow{ID: int64(i + 1), N: field.New(counted{int64(i)}), Note: field.New("")}
	}
	must(t, m.SealNew(t.Context(), field.Pointers(sealed)...))
	rows := make([]countedRow, len(sealed))
	for i := range rows {
		rows[i].ID = sealed[i].ID
		must(t, rows[i].Key.Scan(column(t, sealed[i].Key)))
		must(t, rows[i].N.Scan(column(t, sealed[i].N)))
	}
	armed.Store(true)
	defer armed.Store(false)
	defer func() {
		if cause := recover(); cause != "a program's own method" {
			t.Errorf("Open panics with %v", cause)
		}
	}()
	err := m.Open(t.Context(), field.Pointers(rows)...)
	t.Errorf("Open returns %v instead of panicking", err)
}
