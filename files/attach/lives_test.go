package attach_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// life is what a record and its files should be. Whoever changes it holds it.
type life struct {
	sync.Mutex
	id         int64
	generation int            // counts the records that had this primary key
	files      map[string]int // by ID, with the generation that they were attached to
	lost       map[string]int // whose rows were lost, with their generation: Restore may bring them back
}

// Several programs work on the same records at once: they attach, replace and delete
// files, delete records with and without their files and give their primary keys to
// others, rekey, lose rows, sweep and restore. No record ever gets a file of another, and
// no file is lost that somebody did not lose.
func TestManyLivesPostgresMariaDBSQLite(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]database{"SQLite": sqlite, "Postgres": postgres, "MariaDB": mariadb} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const programs, records, steps = 4, 6, 60
			v := newVault(t)
			first := newWorld(t, d, v.into(t, nil))
			var lives []*life
			for id := range int64(records) {
				first.insert(t, id+1)
				lives = append(lives, &life{id: id + 1, files: make(map[string]int), lost: make(map[string]int)})
			}
			var mu sync.Mutex
			done := make(map[string]int)
			var group sync.WaitGroup
			for n := range programs {
				w := *first
				w.keys = kmstest.NewService(first.keys.Provider()) // may be denied by itself
				w.use(t, 1+n%3)
				group.Go(func() {
					r := rand.New(rand.NewPCG(uint64(n), uint64(len(name))))
					for range steps {
						op := w.act(t, r, lives[r.IntN(records)])
						mu.Lock()
						done[op]++
						mu.Unlock()
					}
				})
			}
			group.Wait()
			t.Log(done)
			w := first
			time.Sleep(5 * time.Millisecond)
			w.sweep(t)
			for _, l := range lives {
				w.judge(t, l)
			}
		})
	}
}

// act does something random to a record.
func (w *world) act(t *testing.T, r *rand.Rand, l *life) string {
	op := []string{"attach", "attach", "attach denied", "replace", "delete", "recreate", "recreate without files", "rekey", "lose", "wrap keys", "sweep", "restore"}[r.IntN(12)]
	switch op {
	case "rekey", "wrap keys", "sweep", "restore": // beside what others do to the record
	default:
		l.Lock()
		defer l.Unlock()
	}
	ctx := t.Context()
	one := func() *attach.Attachment {
		for id := range l.files {
			if a, err := w.manager.Find(ctx, id); err == nil {
				return a
			} else {
				t.Errorf("file %s of record %d is gone: %v", id, l.id, err)
			}
		}
		return nil
	}
	var err error
	switch op {
	case "attach", "attach denied":
		if op == "attach denied" {
			w.keys.Set(kmstest.Revoke(1).On(kmsencrypted.OpUnwrap))
		}
		var p *attach.Pending[customer]
		p, err = w.manager.Upload(ctx, w.read(t, l.id), "scans", strings.NewReader(l.content()), attach.Options{})
		if err == nil {
			var a *attach.Attachment
			if a, err = w.commit(t, p); err == nil {
				l.files[a.ID] = l.generation
			}
		}
		w.keys.Set()
	case "replace", "delete":
		a := one()
		if a == nil || l.files[a.ID] != l.generation {
			break
		}
		if op == "delete" {
			if err = w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(ctx, tx, a) }); err == nil {
				delete(l.files, a.ID)
			}
			break
		}
		var p *attach.Pending[customer]
		if p, err = w.manager.Replace(ctx, w.read(t, l.id), a, strings.NewReader(l.content()), attach.Options{}); err == nil {
			_, err = w.commit(t, p)
		}
	case "recreate", "recreate without files":
		c := &customer{ID: l.id, Name: "Ada", Email: field.New("ada@example.org")}
		must(t, w.model.SealNew(ctx, c))
		err = w.transaction(t, func(tx *sql.Tx) error {
			if op == "recreate" {
				if err := w.manager.DeleteAll(ctx, tx, c); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(w.sql("DELETE FROM customers WHERE id = ?"), l.id); err != nil {
				return err
			}
			_, err := tx.Exec(w.sql("INSERT INTO customers (id, name, encrypted_kms_key, email_ciphertext) VALUES (?, ?, ?, ?)"), c.ID, c.Name, c.Key, c.Email)
			return err
		})
		if err == nil {
			if l.generation++; op == "recreate" {
				clear(l.files)
			}
		}
	case "lose":
		_, err = w.db.Exec(w.sql("DELETE FROM kms_attachments WHERE record_id = ?"), fmt.Sprint(l.id))
		if err == nil {
			for id, generation := range l.files {
				l.lost[id] = generation
			}
			clear(l.files)
		}
	case "rekey":
		c := w.read(t, l.id)
		err = w.transaction(t, func(tx *sql.Tx) error { return w.manager.Rekey(ctx, tx, c) })
	case "wrap keys":
		err = w.manager.WrapKeys(ctx, nil)
	case "sweep":
		_, err = w.manager.Sweep(ctx)
	case "restore":
		_, err = w.manager.Restore(ctx, attach.RestoreOptions{})
	}
	if err != nil {
		if text := err.Error(); w.d.dialect != field.SQLite || !strings.Contains(text, "locked") {
			t.Logf("%s: %.300s", op, text)
		}
		op += " failed"
	}
	return op
}

func (l *life) content() string { return fmt.Sprintf("record %d, generation %d", l.id, l.generation) }

// judge compares a record and its files with what they should be.
func (w *world) judge(t *testing.T, l *life) {
	t.Helper()
	list, err := w.manager.List(t.Context(), w.read(t, l.id), "scans")
	must(t, err)
	there := make(map[string]bool)
	for _, a := range list {
		there[a.ID] = true
		generation, known := l.files[a.ID]
		if !known {
			generation, known = l.lost[a.ID]
		}
		got, err := w.content(t, a)
		switch {
		case !known && err == nil:
			t.Errorf("record %d has a file that was deleted: %q", l.id, got)
		case known && generation == l.generation && (err != nil || string(got) != l.content()):
			t.Errorf("record %d: file %s = %q, %v, want %q", l.id, a.ID, got, err, l.content())
		case known && generation != l.generation && !errors.Is(err, kmsencrypted.ErrDecrypt) && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("record %d of generation %d has a file of generation %d: %q, %v", l.id, l.generation, generation, got, err)
		}
	}
	for id := range l.files {
		if !there[id] {
			t.Errorf("record %d lost file %s", l.id, id)
		}
	}
}
