package attach_test

import (
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// A transaction of PostgreSQL that keeps its first view of the database does not see a
// file that is committed meanwhile: a rekey would leave it under a data key that is gone.
func TestOldViewPostgresMariaDB(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]database{"Postgres": postgres, "MariaDB": mariadb} {
		for _, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
			if d.dialect != field.Postgres && level == sql.LevelSerializable {
				continue // whose reads wait for each other
			}
			t.Run(name+"/"+level.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, d, nil)
				c := w.insert(t, 1)
				late := w.pending(t, c, "scans", "only copy")
				license := w.pending(t, c, "license", "another licence")
				original := w.attach(t, c, "scans", []byte("with a preview"))
				tx, err := w.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level})
				must(t, err)
				defer tx.Rollback()
				var r customer
				must(t, tx.QueryRow(w.sql("SELECT id, name, encrypted_kms_key, email_ciphertext FROM customers WHERE id = ?"), 1).Scan(&r.ID, &r.Name, &r.Key, &r.Email))
				a, err := w.commit(t, late)
				must(t, err)
				w.attach(t, c, "license", []byte("a licence"))
				w.derive(t, c, original)

				isOld := d.dialect == field.Postgres && level != sql.LevelReadCommitted
				refused := func(what string, err error) {
					t.Helper()
					if isOld && !errors.Is(err, kmsencrypted.ErrConfig) {
						t.Errorf("%s = %v, want ErrConfig", what, err)
					}
				}
				_, err = license.Commit(t.Context(), tx)
				refused("Commit", err)
				if !isOld && !errors.Is(err, kmsencrypted.ErrConflict) {
					t.Errorf("Commit of a second licence = %v, want ErrConflict", err)
				}
				refused("Delete", w.manager.Delete(t.Context(), tx, original))
				if n := w.countIn(t, tx, "SELECT count(*) FROM kms_attachments WHERE variant <> ''"); !isOld && n > 0 {
					t.Errorf("Delete left %d derived files", n)
				}
				refused("DeleteAll", w.manager.DeleteAll(t.Context(), tx, c))
				must(t, tx.Rollback())

				tx, err = w.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level})
				must(t, err)
				defer tx.Rollback()
				err = w.manager.Rekey(t.Context(), tx, &r)
				refused("Rekey", err)
				if !isOld {
					must(t, err)
					must(t, tx.Commit())
				}
				w.holds(t, a, []byte("only copy"))
			})
		}
	}
}

func (w *world) countIn(t *testing.T, tx *sql.Tx, query string) (n int) {
	t.Helper()
	must(t, tx.QueryRow(query).Scan(&n))
	return n
}

// Between DeleteAll and the DELETE of the record nobody attaches a file to it.
func TestDeleteAllLocksPostgresMariaDB(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]database{"Postgres": postgres, "MariaDB": mariadb} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, d, nil)
			c := w.insert(t, 1)
			late := w.pending(t, c, "scans", "late")
			tx, err := w.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
			must(t, err)
			defer tx.Rollback()
			must(t, w.manager.DeleteAll(t.Context(), tx, c))
			committed := make(chan error, 1)
			go func() {
				_, err := w.commit(t, late)
				committed <- err
			}()
			select {
			case err := <-committed:
				t.Fatalf("Commit did not wait for the transaction that deletes the record: %v", err)
			case <-time.After(300 * time.Millisecond):
			}
			_, err = tx.Exec("DELETE FROM customers WHERE id = 1")
			must(t, err)
			must(t, tx.Commit())
			if err := <-committed; !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("Commit beside the deletion = %v, want sql.ErrNoRows", err)
			}
			if found, err := w.manager.Orphans(t.Context(), "", 10); err != nil || len(found) > 0 {
				t.Errorf("Orphans() = %d, %v", len(found), err)
			}
		})
	}
}

func (w *world) pending(t *testing.T, c *customer, name, content string) *attach.Pending[customer] {
	t.Helper()
	p, err := w.manager.Upload(t.Context(), c, name, strings.NewReader(content), attach.Options{})
	must(t, err)
	return p
}

type account struct {
	Login string           `db:"login" kms:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// "bob" and "bob " are two records where the column of the primary key says so, although
// the column of kms_attachments ignores spaces at the end.
func TestSpaceAtTheEndMariaDB(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mariadb, nil) // for its keys and its database
	model, err := field.NewModel[account](w.model.Adapter().Box(), field.Config{Table: "accounts", Files: true})
	must(t, err)
	columns, err := model.DDL(field.MySQL)
	must(t, err)
	_, err = w.db.Exec("CREATE TABLE accounts (login varchar(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PRIMARY KEY, " + strings.Join(columns, ", ") + ")")
	must(t, err)
	m, err := attach.New(t.Context(), w.db, field.MySQL, model, attach.Config{One: []string{"license"}, Many: []string{"scans"}, Buckets: map[string]attach.Bucket{"main": new(attach.Memory)}})
	must(t, err)
	must(t, m.CreateTables(t.Context()))
	logins := []string{"bob", "bob ", "bob  "}
	accounts, files := map[string]*account{}, map[string]*attach.Attachment{}
	within := func(do func(tx *sql.Tx)) {
		t.Helper()
		tx, err := w.db.Begin()
		must(t, err)
		defer tx.Rollback()
		do(tx)
		must(t, tx.Commit())
	}
	for _, login := range logins {
		c := &account{Login: login, Email: field.New("x@example.org")}
		must(t, model.SealNew(t.Context(), c))
		_, err := w.db.Exec("INSERT INTO accounts VALUES (?, ?, ?)", c.Login, c.Key, c.Email)
		must(t, err)
		model.Adapter().Saved(c)
		accounts[login] = c
		for _, name := range []string{"scans", "license"} {
			p, err := m.Upload(t.Context(), c, name, strings.NewReader("of "+login), attach.Options{})
			must(t, err)
			within(func(tx *sql.Tx) {
				files[login], err = p.Commit(t.Context(), tx)
				must(t, err)
			})
		}
	}
	holds := func(logins ...string) {
		t.Helper()
		for _, login := range logins {
			list, err := m.List(t.Context(), accounts[login], "scans")
			if err != nil || len(list) != 1 || !slices.Equal(list[0].RecordID, []string{login}) {
				t.Fatalf("List of %q = %v, %v", login, list, err)
			}
			f, err := m.Open(t.Context(), files[login])
			must(t, err)
			content := make([]byte, f.Size())
			if _, err := f.ReadAt(content, 0); err != nil || string(content) != "of "+login {
				t.Errorf("file of %q: %q, %v", login, content, err)
			}
			must(t, f.Close())
		}
	}
	holds(logins...)
	within(func(tx *sql.Tx) { must(t, m.Rekey(t.Context(), tx, accounts["bob "])) })
	holds(logins...)
	within(func(tx *sql.Tx) { must(t, m.DeleteAll(t.Context(), tx, accounts["bob "])) })
	holds("bob", "bob  ")
}
