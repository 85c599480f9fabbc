package sqlstore_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

type coded struct {
	Code  string           `db:"code" kms:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// Whatever a text primary key holds, its row is found again and its old key is
// kept: characters by which arrays are written, one by one and all together.
func TestArraysPostgres(t *testing.T) {
	codes := []string{"plain", "\x1f", "\x1e", "a\x1eb\x1fc", `"\`, "NULL", "{,}", " ", "é\n'"}
	for _, size := range []int{1, len(codes)} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			dir, db := t.TempDir(), postgres.open(t)
			old := model[coded](t, box(t, dir, 1), "coded")
			create(t, postgres, db, old, "code text PRIMARY KEY")
			rows := make([]*coded, len(codes))
			for i, code := range codes {
				rows[i] = &coded{Code: code, Email: field.New(fmt.Sprint("address ", i))}
			}
			insert(t, db, old, rows)
			b := box(t, dir, 3)
			m := model[coded](t, b, "coded")
			r := rotator(t, postgres, db, b, m, rotation.Options{Kind: rotation.Rekey, BatchSize: size, TargetTime: -1, Shards: 1, Workers: 1})
			result, err := r.Run(t.Context())
			must(t, err)
			if result.Outcome != (rotation.Outcome{Written: int64(len(codes))}) {
				t.Errorf("Run() = %+v, want %d written", result, len(codes))
			}
			for _, row := range load(t, db, m) {
				if want := fmt.Sprint("address ", slices.Index(codes, row.Code)); row.Email.Must() != want {
					t.Errorf("row %q: %q, want %q", row.Code, row.Email.Must(), want)
				}
			}
			var journal []struct{ Record, Wrapped string }
			must(t, db.Select(&journal, "SELECT record, wrapped_key AS wrapped FROM kms_rotation_journal"))
			want, got := make(map[string]bool), make(map[string]bool)
			for _, row := range rows {
				key, err := row.Key.Value()
				must(t, err)
				want[key.(string)] = true
			}
			for _, entry := range journal {
				got[entry.Wrapped] = true
			}
			if !maps.Equal(got, want) || len(journal) != len(codes) {
				t.Errorf("the journal has %d keys in %d rows, want the %d old ones", len(got), len(journal), len(want))
			}
		})
	}
}

// A key column of bytes is refused, and what the error says to type helps.
func TestKeyOfBytesPostgres(t *testing.T) {
	t.Parallel()
	db := postgres.open(t)
	m := model[person](t, box(t, t.TempDir(), 1), "people")
	db.MustExec("CREATE TABLE people (id bigint PRIMARY KEY, encrypted_kms_key bytea, email_ciphertext text, phone_ciphertext text)")
	insert(t, db, m, numbered(1))
	_, err := sqlstore.New(t.Context(), db.DB, postgres.dialect, m, sqlstore.Options{})
	if !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Fatalf("New() of a table with a key of type bytea = %v, want ErrConfig", err)
	}
	_, remedy, _ := strings.Cut(err.Error(), "must be text: ")
	_, err = db.Exec(remedy)
	must(t, err)
	_, err = sqlstore.New(t.Context(), db.DB, postgres.dialect, m, sqlstore.Options{})
	must(t, err)
	load(t, db, m)
}
