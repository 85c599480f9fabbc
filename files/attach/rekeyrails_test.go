package attach_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// One record of Rails gets a new data key: what Rails attached is adopted, what is
// attached in our own way beside it follows, and other records stay as they are.
func TestRailsRekeyOneRecord(t *testing.T) {
	t.Parallel()
	w := newRailsWorld(t)
	var id int64
	for _, f := range w.manifest.Files {
		if f.Name == "photo" {
			id = f.RecordID
			break
		}
	}
	bucket := new(attach.Memory)
	manager := func() *attach.Manager[document] {
		m, err := attach.New(t.Context(), w.db, field.SQLite, w.documents, attach.Config{
			One: []string{"contract"}, Buckets: map[string]attach.Bucket{"main": bucket},
		})
		must(t, err)
		must(t, m.CreateTables(t.Context()))
		return m
	}
	contract := random(5, 100_000)
	p, err := manager().Upload(t.Context(), w.read(t, id), "contract", bytes.NewReader(contract), attach.Options{})
	must(t, err)
	must(t, w.transaction(t, func(tx *sql.Tx) error {
		_, err := p.Commit(t.Context(), tx)
		return err
	}))
	check := func(what string) {
		t.Helper()
		w.all(t, what)
		m, d := manager(), w.read(t, id)
		a, err := m.Get(t.Context(), d, "contract")
		must(t, err)
		f, err := m.Open(t.Context(), a)
		must(t, err)
		defer f.Close()
		var got bytes.Buffer
		if _, err := got.ReadFrom(f); err != nil || !bytes.Equal(got.Bytes(), contract) {
			t.Errorf("%s: our own attachment reads %d bytes, %v", what, got.Len(), err)
		}
	}
	columns := func() (keys map[int64]string) {
		keys = make(map[int64]string)
		rows, err := w.db.Query("SELECT id, coalesce(encrypted_kms_key, '') FROM documents")
		must(t, err)
		defer rows.Close()
		for rows.Next() {
			var id int64
			var key string
			must(t, rows.Scan(&id, &key))
			keys[id] = key
		}
		must(t, rows.Err())
		return keys
	}
	check("before")
	before, objects := columns(), w.objects(t)

	w.use(t, 2)
	tx, err := w.db.BeginTx(t.Context(), nil)
	must(t, err)
	must(t, w.rails.Rekey(t.Context(), tx, w.read(t, id), manager()))
	must(t, tx.Rollback())
	if fmt.Sprint(columns()) != fmt.Sprint(before) {
		t.Error("a rekey that was rolled back changed something")
	}
	check("rolled back")

	for _, to := range []int{2, 3} { // the second moves what was adopted before
		w.use(t, to)
		others := manager()
		d := w.read(t, id)
		must(t, w.transaction(t, func(tx *sql.Tx) error { return w.rails.Rekey(t.Context(), tx, d, others) }))
		for other, key := range columns() {
			if rekeyed := strings.HasPrefix(key, fmt.Sprintf("v%d:", to)) && key != before[other]; rekeyed != (other == id) {
				t.Errorf("to version %d: the key of document %d was rekeyed: %v", to, other, rekeyed)
			}
		}
		check(fmt.Sprint("rekeyed to version ", to))
	}
	want := 0
	for _, f := range w.manifest.Files {
		if f.RecordID == id && (f.Name == "photo" || f.Name == "draft") {
			want++
		}
	}
	adopted, err := w.rails.Adopted(t.Context(), 0, 1000)
	must(t, err)
	if len(adopted) != want {
		t.Errorf("%d files adopted, want %d", len(adopted), want)
	}
	for _, b := range adopted {
		if b.RecordID != fmt.Sprint(id) {
			t.Errorf("a file of document %s is adopted", b.RecordID)
		}
	}
	for name, object := range w.objects(t) {
		if !bytes.Equal(objects[name], object) {
			t.Errorf("object %s was touched", name)
		}
	}
}
