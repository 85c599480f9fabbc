package audit_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/audit"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func TestLedgerSQLite(t *testing.T) {
	testLedger(t, field.SQLite, "sqlite", "file:"+t.TempDir()+"/audit?_pragma=busy_timeout(20000)")
}
func TestLedgerPostgres(t *testing.T) { testLedger(t, field.Postgres, "pgx", dbserver.Postgres(t)) }
func TestLedgerMariaDB(t *testing.T) {
	testLedger(t, field.MySQL, "mysql", dbserver.MariaDB(t)+"&parseTime=true&loc=Asia%2FTokyo&sql_mode=''")
}

var auditKey = bytes.Repeat([]byte{7}, audit.KeySize)

func ledger(t *testing.T, db *sql.DB, d field.Dialect, limit audit.Limit) *audit.Ledger {
	t.Helper()
	l, err := audit.NewLedger(db, d, auditKey, limit)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var why = audit.Entry{Viewer: "eve", Table: "customers", ID: "7", Fields: []string{"Email"}, Reason: "T-1, ü"}

func testLedger(t *testing.T, d field.Dialect, driver, dsn string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// A table of the release before gets the columns.
	if _, err := db.Exec("CREATE TABLE kms_audits (viewer varchar(255) NOT NULL, record_table varchar(255) NOT NULL, record_id varchar(255) NOT NULL, fields text NOT NULL, place text NOT NULL, viewed_at " +
		map[field.Dialect]string{field.Postgres: "timestamptz", field.MySQL: "datetime(6)", field.SQLite: "text"}[d] + " NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	l := ledger(t, db, d, audit.Limit{Records: 1000})
	for what, err := range map[string]error{"Log": audit.Log(t.Context(), db, d, why), "Record": second(l.Record(t.Context(), why)), "Verify": second(l.Verify(t.Context()))} {
		if !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(err.Error(), "tables --create") {
			t.Errorf("%s with a table of the release before: %v, want ErrConfig that says what to do", what, err)
		}
	}
	plain := why
	plain.Reason = ""
	if err := audit.Log(t.Context(), db, d, plain); err != nil {
		t.Fatalf("Log into a table of the release before: %v", err)
	}
	for range 2 {
		if err := audit.CreateTables(t.Context(), db, d); err != nil {
			t.Fatal(err)
		}
	}
	if last, err := l.Verify(t.Context()); err != nil || last != (audit.Receipt{}) {
		t.Errorf("Verify without receipts = %v, %v", last, err)
	}

	// Several write at once, each with connections of its own, and log without receipts. Only
	// as many receipts are written as the limit allows.
	var receipts []audit.Receipt
	var mu sync.Mutex
	var wg sync.WaitGroup
	for n := range 4 {
		db, err := sql.Open(driver, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		l := ledger(t, db, d, audit.Limit{Records: 24})
		wg.Go(func() {
			for i := range 8 {
				e := why
				e.ID = fmt.Sprint(n, i)
				e.At = time.Now().Add(-24 * time.Hour) // does not help
				switch r, err := l.Record(t.Context(), e); {
				case err == nil:
					mu.Lock()
					receipts = append(receipts, r)
					mu.Unlock()
				case !errors.Is(err, audit.ErrLimit):
					t.Error(err)
				}
				if err := audit.Log(t.Context(), db, d, why); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	slices.SortFunc(receipts, func(a, b audit.Receipt) int { return int(a.Number - b.Number) })
	last, err := l.Verify(t.Context(), receipts...)
	if err != nil || last.Number != 24 || last != receipts[23] {
		t.Fatalf("Verify = %v, %v, want 24 receipts", last, err)
	}
	other, err := audit.NewLedger(db, d, bytes.Repeat([]byte{8}, 32), audit.Limit{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Verify(t.Context()); !errors.Is(err, audit.ErrBroken) {
		t.Errorf("Verify under another key: %v, want ErrBroken", err)
	}

	// Whatever is changed in whichever line is found, and named.
	n := 2 + rand.IntN(21)
	for _, change := range []string{
		"DELETE FROM kms_audits WHERE receipt = %d", "UPDATE kms_audits SET viewer = 'mallory' WHERE receipt = %d", "UPDATE kms_audits SET record_id = '8' WHERE receipt = %d",
		"UPDATE kms_audits SET record_table = 'x' WHERE receipt = %d", "UPDATE kms_audits SET fields = 'Born' WHERE receipt = %d", "UPDATE kms_audits SET place = 'elsewhere' WHERE receipt = %d",
		"UPDATE kms_audits SET reason = 'T-2' WHERE receipt = %d", "UPDATE kms_audits SET mac = 'x' WHERE receipt = %d", "UPDATE kms_audits SET receipt = NULL WHERE receipt = %d",
		"UPDATE kms_audits SET viewed_at = '2026-01-01 00:00:00' WHERE receipt = %d",
	} {
		restore := saved(t, db, d)
		if _, err := db.Exec(fmt.Sprintf(change, n)); err != nil {
			t.Fatal(err)
		}
		last, err := l.Verify(t.Context())
		if !errors.Is(err, audit.ErrBroken) || !strings.Contains(err.Error(), fmt.Sprintf("receipt %d ", n)) || last.Number != int64(n-1) {
			t.Errorf(change+": Verify = %v, %v, want ErrBroken and the number", n, last.Number, err)
		}
		restore()
	}
	if _, err := l.Verify(t.Context(), receipts...); err != nil {
		t.Fatal(err)
	}
	// The end is noticed by a receipt that was kept.
	if _, err := db.Exec("DELETE FROM kms_audits WHERE receipt > 20"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Verify(t.Context()); err != nil {
		t.Errorf("a chain without its end: %v", err)
	}
	if _, err := l.Verify(t.Context(), receipts[5], last); !errors.Is(err, audit.ErrBroken) {
		t.Errorf("a chain without its end, compared with a receipt: %v, want ErrBroken", err)
	}

	// The limit is for a viewer and a time, by the clock of the database.
	few := ledger(t, db, d, audit.Limit{Records: 3, Per: time.Hour})
	record := func(viewer string) error {
		e := why
		e.Viewer = viewer
		_, err := few.Record(t.Context(), e)
		return err
	}
	for range 3 {
		if err := record("bob"); err != nil {
			t.Fatal(err)
		}
	}
	if err := record("bob"); !errors.Is(err, audit.ErrLimit) {
		t.Errorf("a fourth record in an hour: %v, want ErrLimit", err)
	}
	if err := record("ann"); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	if _, err := db.Exec("UPDATE kms_audits SET viewed_at = '2026-01-01 00:00:00.000000' WHERE viewer = 'bob'"); err != nil {
		t.Fatal(err)
	}
	if err := record("bob"); err != nil {
		t.Errorf("when the hour is over: %v", err)
	}
	if _, err := db.Exec("DELETE FROM kms_audits WHERE receipt > 20"); err != nil {
		t.Fatal(err)
	}
	testOpen(t, db, d)
}

func second[T any](_ T, err error) error { return err }

// saved keeps the entries, and returns what brings them back.
func saved(t *testing.T, db *sql.DB, d field.Dialect) (restore func()) {
	exec := func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			if _, err := db.Exec(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	exec("CREATE TABLE saved AS SELECT * FROM kms_audits")
	return func() {
		exec("DELETE FROM kms_audits", "INSERT INTO kms_audits SELECT * FROM saved", "DROP TABLE saved")
	}
}

type seen struct {
	Tenant string           `db:"tenant" kms:"id"`
	ID     int64            `db:"id" kms:"id"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Email  field.Of[string] `db:"email_ciphertext"`
}

// Open writes the receipt before it opens anything. The primary key is compound, and a
// part of it chooses the key.
func testOpen(t *testing.T, db *sql.DB, d field.Dialect) {
	keys := map[string]kmsencrypted.Provider{"acme": kmstest.Memory(), "globex": kmstest.Memory()}
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {
		ProviderFor: func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
			return keys[s.Record.(*seen).Tenant], nil
		},
	}}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	m, err := field.NewModel[seen](box, field.Config{Table: "customers"})
	if err != nil {
		t.Fatal(err)
	}
	stored := seen{Tenant: "acme", ID: 7, Email: field.New("ada@example.org")}
	if err := m.SealNew(t.Context(), &stored); err != nil {
		t.Fatal(err)
	}
	read := func() *seen {
		row := seen{Tenant: "acme", ID: 7}
		key, err := stored.Key.Value()
		if err != nil {
			t.Fatal(err)
		}
		email, err := stored.Email.Value()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(row.Key.Scan(key), row.Email.Scan(email)); err != nil {
			t.Fatal(err)
		}
		return &row
	}
	l := ledger(t, db, d, audit.Limit{Records: 1})
	before, err := l.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	row := read()
	for what, e := range map[string]audit.Entry{
		"no reason": {Viewer: "zoe", Fields: []string{"Email"}}, "no viewer": {Reason: "T", Fields: []string{"Email"}},
		"no fields": {Reason: "T", Viewer: "zoe"}, "a reason of spaces": {Reason: " ", Viewer: "zoe", Fields: []string{"Email"}},
	} {
		if _, err := audit.Open(t.Context(), l, m, row, e); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Open with %s: %v, want ErrConfig", what, err)
		}
	}
	e := audit.Entry{Viewer: "zoe", Fields: []string{"Email"}, Reason: "T-3", Table: "forged", ID: "forged"}
	if _, err := row.Email.Get(); !errors.Is(err, kmsencrypted.ErrNotOpened) {
		t.Errorf("after refusals the field is %v, want ErrNotOpened", err)
	}
	bad := e
	bad.Place = "\xff"
	if d != field.SQLite { // which takes any bytes
		if _, err := audit.Open(t.Context(), l, m, row, bad); err == nil {
			t.Error("Open with a text that the database does not take")
		}
	}
	if _, err := row.Email.Get(); !errors.Is(err, kmsencrypted.ErrNotOpened) {
		t.Errorf("without a receipt the field is %v, want ErrNotOpened", err)
	}
	receipt, err := audit.Open(t.Context(), l, m, row, e)
	if err != nil || row.Email.Must() != "ada@example.org" || receipt.Number != before.Number+1 {
		t.Fatalf("Open = %v, %v", receipt, err)
	}
	var table, id, why string
	if err := db.QueryRow(fmt.Sprintf("SELECT record_table, record_id, reason FROM kms_audits WHERE receipt = %d", receipt.Number)).Scan(&table, &id, &why); err != nil || table != "customers" || id != "acme,7" || why != "T-3" {
		t.Errorf("the entry says %s %s for %s, %v", table, id, why, err)
	}
	row = read()
	if _, err := audit.Open(t.Context(), l, m, row, e); !errors.Is(err, audit.ErrLimit) {
		t.Errorf("a second record: %v, want ErrLimit", err)
	}
	if _, err := row.Email.Get(); !errors.Is(err, kmsencrypted.ErrNotOpened) {
		t.Errorf("above the limit the field is %v, want ErrNotOpened", err)
	}
	if last, err := l.Verify(t.Context(), receipt); err != nil || last != receipt {
		t.Errorf("Verify = %v, %v, want %v", last, err, receipt)
	}
	db.Close()
	row = read()
	if _, err := audit.Open(t.Context(), l, m, row, e); err == nil {
		t.Error("Open without a database")
	}
	if _, err := row.Email.Get(); !errors.Is(err, kmsencrypted.ErrNotOpened) {
		t.Errorf("without a receipt the field is %v, want ErrNotOpened", err)
	}
}

func TestReceiptText(t *testing.T) {
	t.Parallel()
	r := audit.Receipt{Number: 12, MAC: [32]byte{1, 0xab, 31: 9}}
	if got, err := audit.ParseReceipt(r.String()); err != nil || got != r {
		t.Errorf("ParseReceipt(%v) = %v, %v", r, got, err)
	}
	for _, text := range []string{"", "12", "12:", "x:" + r.String()[3:], "0:" + r.String()[3:], "-1:" + r.String()[3:], " " + r.String(), r.String() + "00", strings.ToUpper(r.String()), "+12" + r.String()[2:]} {
		if got, err := audit.ParseReceipt(text); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("ParseReceipt(%q) = %v, %v, want ErrMalformed", text, got, err)
		}
	}
}
