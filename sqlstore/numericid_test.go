package sqlstore_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

type ofID[ID any] struct {
	ID    ID               `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// Neighbours from 2⁵³ on are the same floating-point number, and those from 2⁶³ on are no
// int64.
var (
	wholeTexts   = []string{"1", "9", "10", "9007199254740992", "9007199254740993", "9007199254740994", "9223372036854775807"}
	longTexts    = append([]string{"9223372036854775808", "123456789012345678901234567890", "123456789012345678901234567891"}, wholeTexts...)
	decimalTexts = []string{"0.0001", "9007199254740993.0001", "9007199254740993.0002", "-9007199254740993.0001"}
	signed       = []int64{math.MinInt64, -5, 9, 10, 100, 1<<53 + 1, 1<<53 + 2, math.MaxInt64}
	unsigned     = []uint64{1, 1<<53 + 1, 1<<53 + 2, math.MaxInt64, math.MaxInt64 + 1, math.MaxInt64 + 2, math.MaxUint64}
)

// Every database tells large numbers apart, whatever the type of the column and of the
// field.
func TestNumericIDPostgres(t *testing.T) {
	t.Parallel()
	db := postgres.open(t)
	testNumericID(t, postgres, db, "numeric", longTexts)
	testNumericID(t, postgres, db, "numeric(30,4)", decimalTexts)
	testNumericID(t, postgres, db, "numeric(20,0)", unsigned)
	testNumericID(t, postgres, db, "numeric(20,0)", signed)
	testNumericID(t, postgres, db, "bigint", wholeTexts)
}

func TestNumericIDMariaDB(t *testing.T)  { testNumericIDs(t, mariadb) }
func TestNumericIDMySQL(t *testing.T)    { testNumericIDs(t, mysql) }
func TestNumericIDMySQLish(t *testing.T) { testNumericIDs(t, mysqlLike) }

func testNumericIDs(t *testing.T, d database) {
	t.Parallel()
	db := d.open(t)
	testNumericID(t, d, db, "decimal(65,0)", longTexts)
	testNumericID(t, d, db, "decimal(30,4)", decimalTexts)
	testNumericID(t, d, db, "decimal(20,0) unsigned", unsigned)
	testNumericID(t, d, db, "decimal(20,0)", signed)
	testNumericID(t, d, db, "bigint", wholeTexts)
	testNumericID(t, d, db, "bigint unsigned zerofill", unsigned)
	testNumericID(t, d, db, "double", signed[1:5])
	testNumericID(t, d, db, "varchar(20)", signed)
}

// SQLite has no integers from 2⁶³ on, except as texts.
func TestNumericIDSQLite(t *testing.T) {
	t.Parallel()
	db := sqlite.open(t)
	testNumericID(t, sqlite, db, "text", longTexts)
	testNumericID(t, sqlite, db, "varchar(20)", signed)
	testNumericID(t, sqlite, db, "decimal(30,0)", wholeTexts)
	testNumericID(t, sqlite, db, "decimal(20,0)", signed)
	testNumericID(t, sqlite, db, "integer", wholeTexts)
}

// testNumericID rotates a table in small batches, so that many rows are the border of one.
func testNumericID[ID any](t *testing.T, d database, db *sqlx.DB, column string, ids []ID) {
	t.Run(fmt.Sprintf("%T in %s", ids[0], column), func(t *testing.T) {
		dir := t.TempDir()
		table := strings.NewReplacer("(", "_", ",", "_", ")", "", " ", "_").Replace(fmt.Sprintf("%T_in_%s", ids[0], column))
		m := model[ofID[ID]](t, box(t, dir, 1), table)
		create(t, d, db, m, "id "+column+" PRIMARY KEY")
		rows := make([]*ofID[ID], len(ids))
		for i, id := range ids {
			rows[i] = &ofID[ID]{ID: id, Email: field.New(fmt.Sprint("mail of ", id))}
		}
		insert(t, db, m, rows)
		for i, kind := range []rotation.Kind{rotation.Rewrap, rotation.Rekey} {
			version := i + 2
			now := model[ofID[ID]](t, box(t, dir, version), table)
			r := rotator(t, d, db, now.Adapter().Box(), now, rotation.Options{Kind: kind, BatchSize: 2, Shards: 2, Workers: 1, TargetTime: -1})
			result, err := r.Run(t.Context())
			must(t, err)
			if want := (rotation.Outcome{Written: int64(len(ids))}); result.Outcome != want || !result.Done {
				failures, _ := r.Failures(t.Context(), 1)
				t.Errorf("Run(%s) = %+v, want %+v and done; %v", kind, result, want, failures)
			}
			v, err := r.Verify(t.Context(), rotation.VerifyOptions{})
			must(t, err)
			if !v.Clean(version) || v.Opened != int64(len(ids)) {
				t.Errorf("Verify() after %s = %+v, want %d opened and clean", kind, v, len(ids))
			}
			for _, row := range load(t, db, now) {
				if got := row.Email.Must(); got != fmt.Sprint("mail of ", row.ID) {
					t.Errorf("row %v has the %s", row.ID, got)
				}
			}
		}
	})
}
