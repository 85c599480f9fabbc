package branch_test

import (
	"bytes"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// held is a record of a subject.
type held struct {
	ID      int64            `db:"id"`
	Subject int64            `db:"subject" kms:"context"`
	Key     field.Key        `db:"encrypted_kms_key"`
	Email   field.Of[string] `db:"email_ciphertext"`
	Index   field.Index      `db:"email_bidx" kms:"of=Email,algorithm=hmac_sha256"`
}

// clinic is an application: three tables with the records of subjects under tenants, some with
// files, and a key store in a database of its own.
type clinic struct {
	t        *testing.T
	d        field.Dialect
	db       *sql.DB // records
	keysDB   *sql.DB
	tables   []string
	subjects int
	keys     *branch.Provider
	models   []*field.Model[held]
	stores   []rotation.BranchEraser
	files    *attach.Manager[held]
}

const tenants = 5

func email(table string, subject int) string { return fmt.Sprintf("%d@%s.example", subject, table) }

// hasFile reports whether a subject has a file.
func hasFile(subject int) bool { return subject%5 == 0 }

func branchOfSubject(subject int) branch.Name {
	return branch.Name{Parent: fmt.Sprint("tenant ", subject%tenants), Branch: fmt.Sprint(subject)}
}

// start opens the application, as a process that starts does.
func (c *clinic) start(keys *branch.Provider, bucket attach.Bucket) {
	c.t.Helper()
	c.keys, c.models, c.stores = keys, nil, nil
	box, err := kmsencrypted.NewBox(keys)
	c.must(err)
	master, err := blindindex.NewMasterKey(bytes.Repeat([]byte{7}, blindindex.KeySize))
	c.must(err)
	for _, table := range c.tables {
		m, err := field.NewModel[held](box, field.Config{Table: table, IndexKey: master, Files: table == "letters", Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			subject := s.Record.(*held).Subject
			return kmsencrypted.Context{"tenant": fmt.Sprint("tenant ", subject%tenants), "subject": subject, "id": s.ID[0]}, nil
		}})
		c.must(err)
		store, err := sqlstore.New(c.t.Context(), c.db, c.d, m, sqlstore.Options{})
		c.must(err)
		c.models, c.stores = append(c.models, m), append(c.stores, store)
	}
	c.files, err = attach.New(c.t.Context(), c.db, c.d, c.models[2], attach.Config{One: []string{"scan"}, Buckets: map[string]attach.Bucket{"b": bucket}})
	c.must(err)
}

func (c *clinic) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *clinic) exec(db *sql.DB, query string, args ...any) {
	c.t.Helper()
	_, err := db.ExecContext(c.t.Context(), c.d.SQL(query), args...)
	c.must(err)
}

// fill writes a record of each subject in each table, and the files.
func (c *clinic) fill() {
	c.t.Helper()
	for i, m := range c.models {
		tx, err := c.db.Begin()
		c.must(err)
		defer tx.Rollback()
		rows := make([]*held, c.subjects)
		for n := range rows {
			rows[n] = &held{ID: int64(n + 1), Subject: int64(n), Email: field.New(email(c.tables[i], n))}
		}
		c.must(m.SealNew(c.t.Context(), rows...))
		for _, r := range rows {
			_, err := tx.ExecContext(c.t.Context(), c.d.SQL("INSERT INTO "+c.tables[i]+" (id, subject, encrypted_kms_key, email_ciphertext, email_bidx) VALUES (?, ?, ?, ?, ?)"),
				r.ID, r.Subject, r.Key, r.Email, r.Index)
			c.must(err)
		}
		c.must(tx.Commit())
		for _, r := range rows {
			if i != 2 || !hasFile(int(r.Subject)) {
				continue
			}
			pending, err := c.files.Upload(c.t.Context(), r, "scan", strings.NewReader(fmt.Sprint("scan of ", r.Subject)), attach.Options{})
			c.must(err)
			_, err = pending.Commit(c.t.Context(), c.db)
			c.must(err)
		}
	}
}

// opened is what can be read.
type opened struct{ values, files, hits, erasedValues, erasedFiles, erasedHits int }

// read opens everything and looks up every subject by its blind index. It fails for a record that does
// not open and is not erased.
func (c *clinic) read(erased map[int]bool) (o opened) {
	c.t.Helper()
	for i, m := range c.models {
		rows := c.rows(c.tables[i])
		err := m.Open(c.t.Context(), rows...)
		for n, r := range rows {
			subject := int(r.Subject)
			text, verr := r.Email.Get()
			switch {
			case verr == nil && text != email(c.tables[i], subject):
				c.t.Errorf("record %d of %s is %q", r.ID, c.tables[i], text)
			case verr == nil && erased[subject]:
				o.erasedValues++
			case verr == nil:
				o.values++
			case !erased[subject]:
				c.t.Fatalf("record %d (%d) of %s: %v", r.ID, n, c.tables[i], errors.Join(verr, err))
			}
			if i == 2 && hasFile(subject) && c.reads(r) {
				if erased[subject] {
					o.erasedFiles++
				} else {
					o.files++
				}
			}
		}
		indexed := c.indexed(c.tables[i])
		for subject := range c.subjects {
			lookup := m.Lookup("Email", email(c.tables[i], subject))
			c.must(lookup.Err())
			n := indexed[argument(c.t, lookup.Args()[0])]
			if erased[subject] {
				o.erasedHits += n
			} else {
				o.hits += n
			}
		}
	}
	return o
}

// argument returns what a driver sends for an argument of a look-up, as text.
func argument(t *testing.T, arg any) string {
	t.Helper()
	if valuer, ok := arg.(driver.Valuer); ok {
		value, err := valuer.Value()
		if err != nil {
			t.Fatal(err)
		}
		arg = value
	}
	return fmt.Sprint(arg)
}

// indexed counts the rows of each index value.
func (c *clinic) indexed(table string) map[string]int {
	c.t.Helper()
	rows, err := c.db.QueryContext(c.t.Context(), "SELECT email_bidx, count(*) FROM "+table+" WHERE email_bidx IS NOT NULL GROUP BY email_bidx")
	c.must(err)
	defer rows.Close()
	counts := make(map[string]int)
	for rows.Next() {
		var value string
		var n int
		c.must(rows.Scan(&value, &n))
		counts[value] = n
	}
	c.must(rows.Err())
	return counts
}

func (c *clinic) rows(table string) (list []*held) {
	c.t.Helper()
	rows, err := c.db.QueryContext(c.t.Context(), "SELECT id, subject, encrypted_kms_key, email_ciphertext, email_bidx FROM "+table+" ORDER BY id")
	c.must(err)
	defer rows.Close()
	for rows.Next() {
		var r held
		c.must(rows.Scan(&r.ID, &r.Subject, &r.Key, &r.Email, &r.Index))
		list = append(list, &r)
	}
	c.must(rows.Err())
	return list
}

// reads reports whether the file of a record opens.
func (c *clinic) reads(r *held) bool {
	a, err := c.files.Get(c.t.Context(), r, "scan")
	if err != nil {
		return false
	}
	f, err := c.files.Open(c.t.Context(), a)
	if err != nil {
		return false
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	return err == nil && string(content) == fmt.Sprint("scan of ", r.Subject)
}

// dump copies tables into memory; restore brings them back.
func (c *clinic) dump(db *sql.DB, tables ...string) (restore func()) {
	c.t.Helper()
	type content struct {
		names []string
		rows  [][]any
	}
	all := make(map[string]content)
	for _, table := range tables {
		rows, err := db.QueryContext(c.t.Context(), "SELECT * FROM "+table)
		c.must(err)
		var one content
		one.names, err = rows.Columns()
		c.must(err)
		for rows.Next() {
			values := make([]any, len(one.names))
			targets := make([]any, len(values))
			for i := range values {
				targets[i] = &values[i]
			}
			c.must(rows.Scan(targets...))
			one.rows = append(one.rows, values)
		}
		c.must(rows.Err())
		c.must(rows.Close())
		all[table] = one
	}
	return func() {
		c.t.Helper()
		tx, err := db.Begin()
		c.must(err)
		defer tx.Rollback()
		for table, one := range all {
			_, err := tx.Exec("DELETE FROM " + table)
			c.must(err)
			marks := strings.TrimSuffix(strings.Repeat("?, ", len(one.names)), ", ")
			insert, err := tx.Prepare(c.d.SQL("INSERT INTO " + table + " (" + c.d.QuotedNames(one.names) + ") VALUES (" + marks + ")"))
			c.must(err)
			for _, values := range one.rows {
				_, err := insert.Exec(values...)
				c.must(err)
			}
			c.must(insert.Close())
		}
		c.must(tx.Commit())
	}
}

// sizeOf reads a number of .ci/long.
func sizeOf(t *testing.T, variable string, usual int) int {
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Records and keys are restored from backups of before an erasure, together or one of the two. After the
// receipts are replayed, nothing of the erased subjects opens or is found, and everything of the others is.
func TestRestoredBackups(t *testing.T) {
	t.Parallel()
	subjects := sizeOf(t, "KMSENCRYPTED_SUBJECTS", 120)
	for _, kind := range databases[:2] {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			c := &clinic{t: t, d: kind.dialect, tables: []string{"people", "visits", "letters"}, subjects: subjects}
			c.db = openDB(t, kind.driver, kind.dsn(t), kind.dialect, branch.Limits{}) // its key store is not used
			c.keysDB = openDB(t, kind.driver, kind.dsn(t), kind.dialect, branch.Limits{MaxAge: 50 * time.Millisecond})
			c.must(attach.CreateTables(t.Context(), c.db, c.d))
			c.must(sqlstore.CreateTables(t.Context(), c.db, c.d))
			for _, table := range c.tables {
				c.exec(c.db, "CREATE TABLE "+table+" (id bigint PRIMARY KEY, subject bigint, encrypted_kms_key text, email_ciphertext text, email_bidx text)")
				c.exec(c.db, "CREATE INDEX "+table+"_email ON "+table+" (email_bidx)")
			}
			store, service, bucket := sqlStore(t, c.keysDB, c.d), newService(t), new(attach.Memory)
			o := branch.Options{Of: branch.ByPairs("tenant", "subject"), Receipts: receiptsOf(t, store), StoreTimeout: time.Minute}
			restart := func() { c.start(open(t, store, service, o), bucket) }
			restart()
			c.fill()

			files := (subjects + 4) / 5
			erased := make(map[int]bool)
			var names []branch.Name
			for subject := 0; subject < subjects; subject += max(25, subjects/500*5) { // who all have files
				erased[subject] = true
				names = append(names, branchOfSubject(subject))
			}
			n := len(erased)
			want := opened{values: 3 * (subjects - n), files: files - n, hits: 3 * (subjects - n)}
			before := want
			before.erasedValues, before.erasedFiles, before.erasedHits = 3*n, n, 3*n
			if got := c.read(erased); got != before {
				t.Fatalf("before the erasure: %+v, want %+v", got, before)
			}
			recordTables := append([]string{"kms_attachments"}, c.tables...)
			keyTables := []string{"kms_branch_store", "kms_branch_keys", "kms_branch_subkeys"}
			restoreRecords, restoreKeys := c.dump(c.db, recordTables...), c.dump(c.keysDB, keyTables...)

			receipts := erase(t, c.keys, branch.EraseOptions{Records: c.stores, SeparateStore: true, Retention: 7 * 24 * time.Hour}, names...)
			if len(receipts) != n || receipts[0].Tables[2].Indexes != int64(n) {
				t.Errorf("%d receipts, the first says %+v", len(receipts), receipts[0])
			}
			if got := c.read(erased); got != want {
				t.Errorf("after the erasure: %+v, want %+v", got, want)
			}

			// The records alone come back: they do not open, and are found until the replay.
			restoreRecords()
			restart()
			found := want
			found.erasedHits = 3 * n
			if got := c.read(erased); got != found {
				t.Errorf("restored records: %+v, want %+v", got, found)
			}
			replay(t, c, false, n)
			if got := c.read(erased); got != want {
				t.Errorf("restored records, replayed: %+v, want %+v", got, want)
			}

			// The keys alone, and both: nothing opens until the replay.
			for _, both := range []bool{false, true} {
				restoreKeys()
				if both {
					restoreRecords()
				}
				restart()
				if err := c.models[0].Open(t.Context(), c.rows("people")[1]); !errors.Is(err, branch.ErrRestored) {
					t.Errorf("a record after a restore: %v, want ErrRestored", err)
				}
				replay(t, c, true, n)
				restart()
				if got := c.read(erased); got != want {
					t.Errorf("restored keys (and records: %t), replayed: %+v, want %+v", both, got, want)
				}
			}
			t.Logf("counted: %s, %d subjects in three tables, %d files, %d erased: %v", kind.name, subjects, files, n, time.Since(began).Round(time.Millisecond))
		})
	}
}

func replay(t *testing.T, c *clinic, restored bool, branches int) {
	t.Helper()
	done, err := c.keys.Replay(t.Context(), false, c.stores...)
	if err != nil || done.Restored != restored || done.Branches != branches {
		t.Fatalf("Replay() = %+v, %v, want %d branches, restored %t", done, err, branches, restored)
	}
}
