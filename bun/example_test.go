package kmsbun_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	kmsbun "github.com/kmsencrypted/kmsencrypted/bun"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// Customer is a record with one plain and one encrypted column.
type Customer struct {
	bun.BaseModel `bun:"table:customers"`
	ID            int64            `bun:",pk,autoincrement" db:"id"`
	Name          string           `db:"name"`
	Key           field.Key        `bun:"encrypted_kms_key" db:"encrypted_kms_key"`
	Email         field.Of[string] `bun:"email_ciphertext" db:"email_ciphertext"`
	EmailIndex    field.Index      `bun:"email_bidx" db:"email_bidx" kms:"of=Email,expression=lower,algorithm=hmac_sha256"`
}

// open opens a database in memory whose records are sealed and opened.
func open() (*bun.DB, *field.Model[Customer]) {
	box, err := kmsencrypted.NewBox(testkey.New())
	check(err)
	key, err := blindindex.ParseMasterKey(strings.Repeat("42", 32))
	check(err)
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers", IndexKey: key})
	check(err)

	conn, err := sql.Open("sqlite", ":memory:")
	check(err)
	conn.SetMaxOpenConns(1) // each connection would get a database of its own
	db := bun.NewDB(conn, sqlitedialect.New())
	check(kmsbun.Use(db, customers))
	_, err = db.Exec("CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, encrypted_kms_key TEXT, email_ciphertext TEXT, email_bidx TEXT)")
	check(err)
	return db, customers
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleUse() {
	ctx := context.Background()
	db, _ := open()
	defer db.Close()

	ada := Customer{Name: "Ada", Email: field.New("ada@example.org")}
	_, err := db.NewInsert().Model(&ada).Exec(ctx)
	check(err)

	var list []Customer
	check(db.NewSelect().Model(&list).Scan(ctx))
	fmt.Println(list[0].Name, list[0].Email.Must())

	list[0].Email.Set("countess@example.org")
	_, err = db.NewUpdate().Model(&list[0]).WherePK().Exec(ctx)
	check(err)

	// What goes around the record is refused, before a statement is sent.
	_, err = db.NewUpdate().Model((*Customer)(nil)).Set("email_ciphertext = ?", "eve@example.org").Where("id = 1").Exec(ctx)
	fmt.Println(errors.Is(err, kmsencrypted.ErrUnsealed))
	// Output:
	// Ada ada@example.org
	// true
}

func ExampleMatches() {
	ctx := context.Background()
	db, customers := open()
	defer db.Close()
	_, err := db.NewInsert().Model(&[]Customer{
		{Name: "Ada", Email: field.New("ada@example.org")},
		{Name: "Grace", Email: field.New("grace@example.org")},
	}).Exec(ctx)
	check(err)

	var found []Customer
	l := customers.Lookup("Email", "Grace@example.org")
	check(db.NewSelect().Model(&found).ApplyQueryBuilder(kmsbun.Matches(l)).Scan(ctx))
	fmt.Println(len(found), found[0].Name)
	// Output: 1 Grace
}

// Team has no encrypted column, but its members do.
type Team struct {
	ID      int64     `bun:",pk"`
	Members []*Member `bun:"rel:has-many,join:id=team_id"`
}

// Member is a member of a team.
type Member struct {
	ID     int64            `bun:",pk,autoincrement" db:"id"`
	TeamID int64            `db:"team_id"`
	Key    field.Key        `bun:"encrypted_kms_key" db:"encrypted_kms_key"`
	Email  field.Of[string] `bun:"email_ciphertext" db:"email_ciphertext"`
}

func ExampleUseRelations() {
	ctx := context.Background()
	db, _ := open()
	defer db.Close()
	box, err := kmsencrypted.NewBox(testkey.New())
	check(err)
	members, err := field.NewModel[Member](box, field.Config{Table: "members"})
	check(err)
	check(kmsbun.Use(db, members))
	check(kmsbun.UseRelations(db, (*Team)(nil)))

	for _, statement := range []string{
		"CREATE TABLE teams (id INTEGER PRIMARY KEY)",
		"CREATE TABLE members (id INTEGER PRIMARY KEY, team_id INTEGER, encrypted_kms_key TEXT, email_ciphertext TEXT)",
		"INSERT INTO teams VALUES (1)",
	} {
		_, err := db.Exec(statement)
		check(err)
	}
	_, err = db.NewInsert().Model(&Member{TeamID: 1, Email: field.New("ada@example.org")}).Exec(ctx)
	check(err)

	var team Team
	check(db.NewSelect().Model(&team).Relation("Members").Scan(ctx))
	fmt.Println(team.Members[0].Email.Must())
	// Output: ada@example.org
}
