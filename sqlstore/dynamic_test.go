package sqlstore_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

func TestDynamicPostgres(t *testing.T) { testDynamic(t, postgres) }
func TestDynamicMariaDB(t *testing.T)  { testDynamic(t, mariadb) }
func TestDynamicMySQL(t *testing.T)    { testDynamic(t, mysql) }
func TestDynamicMySQLish(t *testing.T) { testDynamic(t, mysqlLike) }
func TestDynamicSQLite(t *testing.T)   { testDynamic(t, sqlite) }

// testDynamic rotates a table whose struct is made at run time: rewrapped with
// its keys only, then rekeyed with its columns.
func testDynamic(t *testing.T, d database) {
	t.Parallel()
	dir := t.TempDir()
	db := d.open(t)
	type account struct {
		Code string           `db:"code" kms:"id"`
		Key  field.Key        `db:"encrypted_kms_key"`
		IBAN field.Of[string] `db:"iban_ciphertext"`
	}
	static := model[account](t, box(t, dir, 1), "accounts")
	create(t, d, db, static, "code "+d.id+" PRIMARY KEY")
	var rows []*account
	for _, code := range []string{"a", "b", "c", "d", "e"} {
		rows = append(rows, &account{Code: code, IBAN: field.New("iban of " + code)})
	}
	insert(t, db, static, rows)

	code := reflect.StructField{Name: "Code", Type: reflect.TypeFor[string](), Tag: `db:"code" kms:"id"`}
	key := reflect.StructField{Name: "Key", Type: reflect.TypeFor[field.Key](), Tag: `db:"encrypted_kms_key"`}
	iban := reflect.StructField{Name: "IBAN", Type: reflect.TypeFor[field.Of[string]](), Tag: `db:"iban_ciphertext"`}

	second := box(t, dir, 2)
	keysOnly, err := field.NewDynamicModel(second, reflect.StructOf([]reflect.StructField{code, key}), field.Config{Table: "accounts", KeysOnly: true})
	must(t, err)
	store, err := sqlstore.New(t.Context(), db.DB, d.dialect, keysOnly, sqlstore.Options{Independent: []string{"iban_ciphertext"}})
	must(t, err)
	must(t, store.CreateTables(t.Context()))
	rekey, err := rotation.New(second, store, rotation.Options{Kind: rotation.Rekey, WritersAreOurs: true})
	must(t, err)
	if _, err := rekey.Run(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("a rekey with the keys only: %v, want ErrConfig", err)
	}
	rewrap := rotator(t, d, db, second, keysOnly, rotation.Options{BatchSize: 2, Shards: 2})
	result, err := rewrap.Run(t.Context())
	must(t, err)
	if !result.Done || result.Written != 5 {
		t.Errorf("rewrapped %d, done %t", result.Written, result.Done)
	}
	verified, err := rewrap.Verify(t.Context(), rotation.VerifyOptions{})
	must(t, err)
	if !verified.Clean(2) || verified.Opened != 5 {
		t.Errorf("verified %+v", verified)
	}

	third := box(t, dir, 3)
	full, err := field.NewDynamicModel(third, reflect.StructOf([]reflect.StructField{code, key, iban}), field.Config{Table: "accounts"})
	must(t, err)
	result, err = rotator(t, d, db, third, full, rotation.Options{Kind: rotation.Rekey, BatchSize: 2, Shards: 2}).Run(t.Context())
	must(t, err)
	if !result.Done || result.Written != 5 || result.Failed != 0 {
		t.Errorf("rekeyed %+v", result)
	}
	for _, row := range load(t, db, model[account](t, third, "accounts")) {
		if version, _ := row.Key.Version(); version != 3 || row.IBAN.Must() != "iban of "+row.Code {
			t.Errorf("%s is at version %d with %q", row.Code, version, row.IBAN.Must())
		}
	}
}
