package thumbnail_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"image"
	"image/png"
	"log"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/thumbnail"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

type customer struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

func ExampleOf() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	check(err)
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite", filepath.Join(dir, "app.sqlite3"))
	check(err)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE customers (id integer PRIMARY KEY, encrypted_kms_key text); INSERT INTO customers (id) VALUES (7)")
	check(err)
	box, err := kmsencrypted.NewBox(testkey.New())
	check(err)
	model, err := field.NewModel[customer](box, field.Config{Table: "customers", Files: true})
	check(err)
	attachments, err := attach.New(ctx, db, field.SQLite, model, attach.Config{One: []string{"portrait"}, Buckets: map[string]attach.Bucket{"memory": new(attach.Memory)}})
	check(err)
	check(attachments.CreateTables(ctx))

	commit := func(p *attach.Pending[customer], err error) *attach.Attachment {
		check(err)
		tx, err := db.BeginTx(ctx, nil)
		check(err)
		a, err := p.Commit(ctx, tx)
		check(err)
		check(tx.Commit())
		return a
	}
	var picture bytes.Buffer
	check(png.Encode(&picture, image.NewGray(image.Rect(0, 0, 3000, 2000))))
	c := customer{ID: 7}
	check(db.QueryRow("SELECT encrypted_kms_key FROM customers WHERE id = 7").Scan(&c.Key))
	portrait := commit(attachments.Upload(ctx, &c, "portrait", &picture, attach.Options{Name: "ada.png"}))
	small := commit(attachments.Derive(ctx, &c, portrait, "small", attach.Options{Name: "ada.jpg"}, thumbnail.Of(thumbnail.Options{Width: 300, Height: 300})))

	f, err := attachments.Open(ctx, small)
	check(err)
	defer f.Close()
	size, format, err := image.DecodeConfig(f)
	fmt.Println(f.ContentType(), format, size.Width, size.Height, err)
	// Output: image/jpeg jpeg 300 200 <nil>
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
