package sqlstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func TestSealingSQLite(t *testing.T)   { testSealing(t, sqlite) }
func TestSealingPostgres(t *testing.T) { testSealing(t, postgres) }

// A rewrap seals records over the columns that it read. A program whose version seals none
// writes a column meanwhile, and leaves the key column as it is: the rewrap must notice.
func testSealing(t *testing.T, d database) {
	t.Parallel()
	const n = 30
	db := d.open(t)
	first, second := kmstest.Memory(), kmstest.NewService(kmstest.Memory())
	before, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: first}}}.Box()
	must(t, err)
	sealing, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{
		1: {Provider: first}, 2: {Provider: second.Provider(), RecordSeal: true},
	}}.Box()
	must(t, err)
	older, m := model[person](t, before, "people"), model[person](t, sealing, "people")
	create(t, d, db, older, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprint("person ", i+1))}
	}
	insert(t, db, older, people)

	const late = n / 2
	var wraps atomic.Int64
	write := func(ctx context.Context) error {
		if wraps.Add(1) != 1 { // the rows of the first batch are read
			return nil
		}
		for id := int64(1); id <= late; id++ {
			if err := writeBeside(ctx, db, older, id); err != nil {
				return err
			}
		}
		return nil
	}
	second.Set(kmstest.Before(write).On(kmsencrypted.OpWrap))
	r := rotator(t, d, db, sealing, m, rotation.Options{Kind: rotation.Rewrap, BatchSize: n, Shards: 1, Workers: 1})
	result, err := r.Run(t.Context())
	if err != nil || !result.Done || result.Conflicts != late {
		t.Errorf("Run() = %+v, %v, want it done after %d conflicts", result, err, late)
	}
	for _, row := range load(t, db, m) {
		if got := row.Phone.Must(); (got != nil) != (row.ID <= late) {
			t.Errorf("the phone of %d is %v after the rewrap", row.ID, got)
		}
	}
	if counts := versions(t, db, "people"); counts[2] != n {
		t.Errorf("%v records by version, want %d at 2", counts, n)
	}
}

// writeBeside changes a column and leaves the key column as it is.
func writeBeside(ctx context.Context, db *sqlx.DB, m *field.Model[person], id int64) error {
	at := fmt.Sprint(" FROM people WHERE id = ", id)
	var key, now string
	if err := db.GetContext(ctx, &key, "SELECT encrypted_kms_key"+at); err != nil {
		return err
	}
	var row person
	if err := kmssqlx.Get(ctx, db, m, &row, "SELECT *"+at); err != nil {
		return err
	}
	row.Phone.Set(new("written late"))
	if err := kmssqlx.Update(ctx, db, m, &row); err != nil {
		return err
	}
	if err := db.GetContext(ctx, &now, "SELECT encrypted_kms_key"+at); err != nil {
		return err
	}
	if key != now {
		return fmt.Errorf("the key column of %d has changed, so there is nothing to notice", id)
	}
	return nil
}
