package rotatecli_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

type visit struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

// The database is lost, and the command restores it from the bucket alone.
func TestFilesRestore(t *testing.T) {
	t.Parallel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	bucket, err := attach.OpenDir(filepath.Join(t.TempDir(), "bucket"))
	must(err)
	defer bucket.Close()
	recovery, err := kmsencrypted.NewBox(kmstest.Memory())
	must(err)
	var stdout, stderr strings.Builder
	type program struct {
		db      *sql.DB
		manager *attach.Manager[visit]
		run     func(want int, args ...string) string
	}
	open := func(r *attach.Recovery) program {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "app.sqlite3")+"?_pragma=busy_timeout(20000)")
		must(err)
		t.Cleanup(func() { db.Close() })
		_, err = db.Exec("CREATE TABLE patients (id integer PRIMARY KEY, encrypted_kms_key text); INSERT INTO patients (id) VALUES (1)")
		must(err)
		model, err := field.NewModel[visit](kmstest.Box(t), field.Config{Table: "patients", Files: true})
		must(err)
		m, err := attach.New(t.Context(), db, field.SQLite, model, attach.Config{Many: []string{"scans"}, Buckets: map[string]attach.Bucket{"main": bucket}, Recovery: r})
		must(err)
		must(m.CreateTables(t.Context()))
		p := rotatecli.Program{Name: "ops", Stdout: &stdout, Stderr: &stderr, Open: func(context.Context) (*rotatecli.Database, error) {
			with := rotatecli.With(model, sqlstore.Options{Dependents: []field.Dependents{m}})
			return &rotatecli.Database{DB: db, Dialect: field.SQLite, Models: []field.AnyModel{with}}, nil
		}}
		return program{db, m, func(want int, args ...string) string {
			t.Helper()
			stdout.Reset()
			stderr.Reset()
			if code := p.Run(t.Context(), args); code != want {
				t.Errorf("%v: exit code %d, want %d: %s%s", args, code, want, &stdout, &stderr)
			}
			if strings.Contains(stdout.String()+stderr.String(), secretBody) {
				t.Errorf("%v prints a plaintext", args)
			}
			return stdout.String()
		}}
	}
	configured := &attach.Recovery{Box: recovery, Store: "clinic"}
	before := open(configured)
	_, err = before.db.Exec("INSERT INTO patients (id) VALUES (2)")
	must(err)
	for n := range 10 {
		c := visit{ID: int64(n/8 + 1)}
		must(before.db.QueryRow("SELECT encrypted_kms_key FROM patients WHERE id = ?", c.ID).Scan(&c.Key))
		p, err := before.manager.Upload(t.Context(), &c, "scans", strings.NewReader(secretBody), attach.Options{Name: "scan.txt"})
		must(err)
		tx, err := before.db.Begin()
		must(err)
		_, err = p.Commit(t.Context(), tx)
		must(err)
		must(tx.Commit())
	}
	wants := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("printed %q, want %q", got, want)
		}
	}
	var object string
	must(before.db.QueryRow("SELECT object FROM kms_attachments WHERE record_id = '1'").Scan(&object))
	must(bucket.Delete(t.Context(), object+attach.SidecarSuffix))
	wants(before.run(0, "files", "wrap-recovery"), "patients  10 files looked at\n")
	if out, want := before.run(0, "inventory", "--format", "csv"), fmt.Sprintf("patients,scans,file,encrypted_kms_key,native,\"10 files, %d bytes\",,,", 10*len(secretBody)); !strings.Contains(out, want) {
		t.Errorf("inventory printed %s, want %s", out, want)
	}
	wants(before.run(0, "files", "restore"), "patients  0 files restored, 10 had their rows, 0 without a record, 0 of another data key, 0 superseded, 0 not attached, 0 without a sidecar, 0 failed\n")

	after := open(configured)
	wants(after.run(rotatecli.ExitFailures, "files", "restore"),
		"patients  0 files restored, 0 had their rows, 2 without a record, 8 of another data key, 0 superseded, 0 not attached, 0 without a sidecar, 0 failed\n")
	wants(after.run(rotatecli.ExitFailures, "files", "restore", "--new-keys", "--table", "patients"),
		"patients  8 files restored, 0 had their rows, 2 without a record, 0 of another data key, 0 superseded, 0 not attached, 0 without a sidecar, 0 failed\n")
	if out := after.run(rotatecli.ExitFailures, "files", "restore", "--list"); strings.Count(out, "patients  no record  record 2, scans, object ") != 2 {
		t.Errorf("--list printed %s", out)
	}
	_, err = after.db.Exec("INSERT INTO patients (id) VALUES (2)")
	must(err)
	must(bucket.Delete(t.Context(), object))
	wants(after.run(0, "files", "restore", "--new-keys"), "patients  2 files restored, 8 had their rows, 0 without a record, 0 of another data key, 0 superseded, 0 not attached, 0 without a sidecar, 0 failed\n")
	list, err := after.manager.List(t.Context(), &visit{ID: 2}, "scans")
	must(err)
	for _, a := range list {
		f, err := after.manager.Open(t.Context(), a)
		must(err)
		content, err := io.ReadAll(f)
		must(errors.Join(err, f.Close()))
		if string(content) != secretBody {
			t.Errorf("%s holds %q", a.ID, content)
		}
	}
	if out := open(configured).run(rotatecli.ExitFailures, "files", "restore", "--new-keys"); !strings.Contains(out, "  failed  kmsencrypted: restore patients [1]") || !strings.Contains(out, " 1 failed") {
		t.Errorf("without an object: %s", out)
	}
	without := open(nil)
	without.run(rotatecli.ExitError, "files", "restore", "--new-keys")
	without.run(rotatecli.ExitUsage, "files", "restore", "--new-keys", "--table", "nothing")
}
