package rotatecli_test

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// subscriber is a record of a tenant with a key of its own, a branch.
type subscriber struct {
	ID     int64            `db:"id"`
	Tenant string           `db:"tenant" kms:"context"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Email  field.Of[string] `db:"email_ciphertext"`
	Index  field.Index      `db:"email_bidx" kms:"of=Email,algorithm=hmac_sha256"`
}

// branchKeys opens branch keys in a database of their own, with receipts beside it.
func branchKeys(ctx context.Context) (*branch.Provider, branch.Receipts) {
	keysDB, err := sql.Open("sqlite", "file:keys.sqlite3?_pragma=busy_timeout(20000)&_pragma=synchronous(off)")
	check(err)
	check(branch.CreateTables(ctx, keysDB, field.SQLite, branch.Limits{MaxAge: 20 * time.Millisecond}))
	store, err := branch.NewSQL(keysDB, field.SQLite)
	check(err)
	receipts, err := branch.OpenReceipts("receipts")
	if err != nil {
		receipts, err = branch.CreateReceipts(ctx, "receipts", store)
	}
	check(err)
	kms, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{1: {Provider: keyIn(".", "kms1.key")}, 2: {Provider: keyIn(".", "kms2.key")}}}.Box()
	check(err)
	keys, err := branch.Open(ctx, store, kms, branch.Options{Of: branch.ByPair("tenant"), Receipts: receipts})
	check(err)
	return keys, receipts
}

// branches opens the program: records in a database, and their branch keys.
func branches(ctx context.Context) (*sql.DB, *field.Model[subscriber]) {
	keys, _ := branchKeys(ctx)
	return subscribers(kmsencrypted.Version{Provider: keys})
}

func subscribers(version kmsencrypted.Version) (*sql.DB, *field.Model[subscriber]) {
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: version}}.Box()
	check(err)
	master, err := blindindex.NewMasterKey(make([]byte, blindindex.KeySize))
	check(err)
	m, err := field.NewModel[subscriber](box, field.Config{Table: "subscribers", IndexKey: master, Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"tenant": s.Record.(*subscriber).Tenant, "id": s.ID[0]}, nil
	}})
	check(err)
	return openIn("."), m
}

func branchesProgram() {
	db, m := branches(context.Background())
	rotatecli.Main(context.Background(), db, m)
}

// chosenProgram is the program with branch keys that its version chooses for each record.
func chosenProgram() {
	keys, _ := branchKeys(context.Background())
	db, m := subscribers(kmsencrypted.Version{ProviderFor: func(kmsencrypted.Subject, kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
		return keys, nil
	}})
	rotatecli.Main(context.Background(), db, m)
}

// eraseHalf leaves an erasure of a branch under a parent that began two days ago.
func eraseHalf() {
	_, receipts := branchKeys(context.Background())
	check(receipts.Append(context.Background(), branch.Receipt{
		Kind: branch.ErasureBegun, Name: branch.Name{Parent: "globex", Branch: "42"}, At: time.Now().Add(-48 * time.Hour),
	}))
}

// seedBranches writes three records of each of two tenants.
func seedBranches() {
	ctx := context.Background()
	db, m := branches(ctx)
	_, err := db.Exec("CREATE TABLE subscribers (id integer PRIMARY KEY, tenant text, encrypted_kms_key text, email_ciphertext text, email_bidx text)")
	check(err)
	rows := make([]subscriber, 6)
	for i := range rows {
		rows[i] = subscriber{ID: int64(i + 1), Tenant: []string{"acme", "globex"}[i%2], Email: field.New(secretEmail)}
	}
	check(m.SealNew(ctx, field.Pointers(rows)...))
	for _, r := range rows {
		_, err := db.Exec("INSERT INTO subscribers VALUES (?, ?, ?, ?, ?)", r.ID, r.Tenant, r.Key, r.Email, r.Index)
		check(err)
	}
}

// readBranches says how many records of each tenant open and are found.
func readBranches() {
	ctx := context.Background()
	db, m := branches(ctx)
	for _, tenant := range []string{"acme", "globex"} {
		list, err := db.Query("SELECT id, tenant, encrypted_kms_key, email_ciphertext, email_bidx FROM subscribers WHERE tenant = ?", tenant)
		check(err)
		opened, why := 0, "no error"
		for list.Next() {
			var r subscriber
			check(list.Scan(&r.ID, &r.Tenant, &r.Key, &r.Email, &r.Index))
			if err := m.Open(ctx, &r); err == nil {
				opened++
			} else {
				why = err.Error()
			}
		}
		check(list.Close())
		lookup := m.Lookup("Email", secretEmail)
		check(lookup.Err())
		var found int
		check(db.QueryRow("SELECT count(*) FROM subscribers WHERE tenant = ? AND email_bidx = ?", tenant, lookup.Args()[0]).Scan(&found))
		fmt.Printf("%s: %d open, %d found: %s\n", tenant, opened, found, why)
	}
}
