package attach_test

import (
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// A record that got its first data key by a Commit whose transaction was rolled back has
// no data key in the database. The caller's record can be written and get files all the
// same, in any order, and everything opens.
func TestFirstKeyAfterARollback(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		w := newWorld(t, d, nil)
		db := sqlx.NewDb(w.db, d.driver)
		for i, steps := range []string{"save", "upload", "upload save", "save upload", "upload save; save", "save upload; upload save"} {
			id := int64(i + 1)
			w.exec(t, "INSERT INTO customers (id, name) VALUES (?, 'Bob')", id)
			bob := w.read(t, id)
			var files []*attach.Attachment
			transaction := func(steps string) *sqlx.Tx {
				var uploads []*attach.Pending[customer]
				for range strings.Count(steps, "upload") {
					p, err := w.manager.Upload(t.Context(), bob, "scans", strings.NewReader("content"), attach.Options{})
					must(t, err)
					uploads = append(uploads, p)
				}
				tx, err := db.BeginTxx(t.Context(), nil)
				must(t, err)
				for step := range strings.FieldsSeq(steps) {
					if step == "save" {
						bob.Email.Set("bob@example.org")
						must(t, kmssqlx.Update(t.Context(), tx, w.model, bob))
						continue
					}
					a, err := uploads[0].Commit(t.Context(), tx)
					must(t, err)
					files, uploads = append(files, a), uploads[1:]
				}
				return tx
			}
			refused, repeated, _ := strings.Cut("upload "+steps, "; ")
			must(t, transaction(refused).Rollback())
			if files = nil; repeated == "" {
				repeated = steps
			}
			must(t, transaction(repeated).Commit())
			now := w.read(t, id)
			must(t, w.model.Open(t.Context(), now))
			if email, err := now.Email.Get(); strings.Contains(repeated, "save") && (err != nil || email != "bob@example.org") {
				t.Errorf("%s: the row holds %q, %v", steps, email, err)
			}
			for _, a := range files {
				w.holds(t, a, []byte("content"))
			}
		}
	})
}
