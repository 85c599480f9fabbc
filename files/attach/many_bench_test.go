package attach_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// thousands are the attachments of one record.
const thousands = 10_000

// attachMany adds attachments of record 1 with objects. Only the one that it returns
// was uploaded.
func (w *world) attachMany(t testing.TB, c *customer, n int) (first *attach.Attachment) {
	t.Helper()
	first = w.attach(t, c, "scans", []byte("scan"))
	keys, err := w.model.Adapter().DataKeys(t.Context(), "encrypted_kms_key", c)
	must(t, err)
	defer keys[0].Wipe()
	wrapper, err := files.NewWrapper(keys[0])
	must(t, err)
	must(t, w.transaction(t, func(tx *sql.Tx) error {
		for start := 1; start < n; start += 500 {
			var rows []string
			var args []any
			for i := start; i < min(start+500, n); i++ {
				id, object := fmt.Sprintf("id%024d", i), fmt.Sprintf("%028d", i)
				w.memory.Change(object, func([]byte) []byte { return []byte("x") })
				file := files.NewID()
				wrapped, err := wrapper.Wrap(files.NewKey(), files.Place{Format: files.Native, Table: first.Table, ID: first.RecordID, Attachment: "scans", File: file})
				if err != nil {
					return err
				}
				rows = append(rows, "(?, ?, '1', 'scans', '', '', 'main', ?, 'native', ?, ?, 1, 105, 'scan', 'text/plain', ?)")
				args = append(args, id, first.Table, object, file.String(), wrapped, i)
			}
			if _, err := tx.Exec(w.sql(`INSERT INTO kms_attachments (id, record_table, record_id, name, variant, parent_id, bucket, object, format, file_id, wrapped_key, size, object_size, file_name, content_type, created) VALUES `+
				strings.Join(rows, ", ")), args...); err != nil {
				return err
			}
		}
		return nil
	}))
	return first
}

// manyOperations are what is done to a record with many attachments.
func (w *world) manyOperations(t testing.TB) map[string]func() {
	return map[string]func(){
		"list": func() {
			list, err := w.manager.List(t.Context(), w.read(t, 1), "scans")
			if must(t, err); len(list) == 0 {
				t.Error("no attachments")
			}
		},
		"rekey": func() {
			must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Rekey(t.Context(), tx, w.read(t, 1)) }))
		},
		"delete": func() {
			must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.DeleteAll(t.Context(), tx, w.read(t, 1)) }))
		},
		"sweep": func() {
			time.Sleep(5 * time.Millisecond)
			_, err := w.manager.Sweep(t.Context())
			must(t, err)
		},
	}
}

// Many attachments of one record are listed, rekeyed, deleted and swept as few are.
func TestManyAttachmentsPostgresMariaDBMySQLSQLite(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		const n = 1203
		w := newWorld(t, d, func(c *attach.Config) { c.Grace = time.Millisecond })
		first := w.attachMany(t, w.insert(t, 1), n)
		other := w.attach(t, w.insert(t, 2), "license", []byte("of another"))
		list, err := w.manager.List(t.Context(), w.read(t, 1), "scans")
		if must(t, err); len(list) != n {
			t.Errorf("List = %d, want %d", len(list), n)
		}
		w.use(t, 2)
		do := w.manyOperations(t)
		before := w.count(t, "SELECT count(DISTINCT wrapped_key) FROM kms_attachments")
		do["rekey"]()
		after, err := w.manager.List(t.Context(), w.read(t, 1), "scans")
		must(t, err)
		same := 0
		old := make(map[string]string)
		for _, a := range list {
			old[a.ID] = a.WrappedKey
		}
		for _, a := range after {
			if old[a.ID] == a.WrappedKey {
				same++
			}
		}
		if same != 0 || len(after) != n || before != n+1 || w.count(t, "SELECT count(DISTINCT wrapped_key) FROM kms_attachments") != n+1 {
			t.Errorf("after the rekey %d of %d keys are as before", same, len(after))
		}
		w.holds(t, first, []byte("scan"))
		do["delete"]()
		w.sweep(t)
		w.clean(t, 1)
		w.holds(t, other, []byte("of another"))
	})
}

// BenchmarkManyAttachments measures each operation on 10,000 attachments of one
// record.
func BenchmarkManyAttachments(b *testing.B) {
	for _, c := range []struct {
		name string
		d    database
	}{{"SQLite", sqlite}, {"Postgres", postgres}, {"MariaDB", mariadb}} {
		for _, operation := range []string{"list", "rekey", "delete", "sweep"} {
			b.Run(c.name+"/"+operation, func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					w := newWorld(b, c.d, func(c *attach.Config) { c.Grace = time.Millisecond })
					w.attachMany(b, w.insert(b, 1), thousands)
					do := w.manyOperations(b)
					if operation == "sweep" {
						do["delete"]()
					}
					b.StartTimer()
					do[operation]()
				}
			})
		}
	}
}
