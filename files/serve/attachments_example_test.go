package serve_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/serve"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

type patient struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

// Files that are attached to records: the first function finds the attachment and asks
// whether the user may read its record.
func ExampleHandler_attachments() {
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	folder, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(folder)
	db, err := sql.Open("sqlite", "file:"+folder+"/app.sqlite3?_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_txlock=immediate")
	check(err)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE patients (id integer PRIMARY KEY, encrypted_kms_key text); INSERT INTO patients (id) VALUES (7)")
	check(err)
	box, err := kmsencrypted.NewBox(testkey.New())
	check(err)
	patients, err := field.NewModel[patient](box, field.Config{Table: "patients", Files: true})
	check(err)
	bucket, err := attach.OpenDir(folder + "/files")
	check(err)
	defer bucket.Close()
	attachments, err := attach.New(ctx, db, field.SQLite, patients, attach.Config{Many: []string{"scans"}, Buckets: map[string]attach.Bucket{"disk": bucket}})
	check(err)
	check(attachments.CreateTables(ctx))

	pending, err := attachments.Upload(ctx, &patient{ID: 7}, "scans", strings.NewReader("all is well"), attach.Options{Name: "report.txt"})
	check(err)
	tx, err := db.BeginTx(ctx, nil)
	check(err)
	scan, err := pending.Commit(ctx, tx)
	check(err)
	check(tx.Commit())

	mux := http.NewServeMux()
	mux.Handle("GET /scans/{id}", serve.Handler(
		func(r *http.Request) (*attach.Attachment, error) {
			a, err := attachments.Find(r.Context(), r.PathValue("id"))
			if user, _, _ := r.BasicAuth(); err == nil && (user != "ada" || a.RecordID[0] != "7") {
				err = serve.ErrForbidden
			}
			return a, err
		},
		attachments.Open,
		serve.Options{},
	))
	for _, path := range []string{"/scans/" + scan.ID, "/scans/none"} {
		request := httptest.NewRequest("GET", path, nil)
		request.SetBasicAuth("ada", "")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, request)
		text, _ := io.ReadAll(w.Result().Body)
		fmt.Printf("%d %s\n", w.Code, text)
	}
	// Output:
	// 200 all is well
	// 404 Not Found
}
