package audit_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/audit"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// Log in the transaction that reads, before the plaintext is shown.
func ExampleLog() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // each connection would get a database of its own
	if err := audit.CreateTables(ctx, db, field.SQLite); err != nil {
		log.Fatal(err)
	}

	err = audit.Log(ctx, db, field.SQLite, audit.Entry{
		Viewer: "eve", Table: "customers", ID: "7", Fields: []string{"Email", "Born"}, Place: "GET /customers/7",
	})
	if err != nil {
		log.Fatal(err)
	}
	var viewer, fields, place string
	err = db.QueryRowContext(ctx, "SELECT viewer, fields, place FROM kms_audits WHERE record_table = 'customers' AND record_id = '7'").Scan(&viewer, &fields, &place)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(viewer, "saw", fields, "at", place)

	err = audit.Log(ctx, db, field.SQLite, audit.Entry{Table: "customers", ID: "7"})
	fmt.Println("entry without a viewer refused:", errors.Is(err, kmsencrypted.ErrConfig))
	// Output:
	// eve saw Email,Born at GET /customers/7
	// entry without a viewer refused: true
}
