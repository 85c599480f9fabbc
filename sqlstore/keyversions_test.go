package sqlstore_test

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func TestKeyVersionsSQLite(t *testing.T)   { testKeyVersions(t, sqlite) }
func TestKeyVersionsPostgres(t *testing.T) { testKeyVersions(t, postgres) }

// Two keys of a model are written at different versions, as by has_kms_key beside
// has_kms_key name: :phone, version: 2. A rotation moves each to its own.
func testKeyVersions(t *testing.T, d database) {
	t.Parallel()
	db := d.open(t)
	ruby := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}
	modelOf := func(current int, keys map[string]int) *field.Model[member] {
		b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: ruby, 2: ruby, 3: ruby}}.Box()
		must(t, err)
		m, err := field.NewModel[member](b, field.Config{Table: "members", Name: "Member", KeyVersions: keys})
		must(t, err)
		return m
	}
	versions := func(m *field.Model[member]) string {
		seen := make(map[string]int)
		for _, row := range load(t, db, m) { // which opens them
			first, _ := row.Key.Version()
			phone, _ := row.PhoneKey.Version()
			seen[fmt.Sprintf("%d/%d", first, phone)]++
		}
		return strings.Trim(fmt.Sprint(seen), "map[]")
	}
	before, m := modelOf(1, nil), modelOf(1, map[string]int{"phone": 2})
	create(t, d, db, m, "id bigint PRIMARY KEY")
	const rows = 30
	for id := int64(1); id <= rows; id++ {
		as := before
		if id%3 == 0 {
			as = m
		}
		insert(t, db, as, []*member{{ID: id, Email: field.New(new("e")), Phone: field.New(new("p"))}})
	}
	if got := versions(m); got != "1/1:20 1/2:10" {
		t.Errorf("inserted at versions %s", got)
	}

	for _, step := range []struct {
		m       *field.Model[member]
		kind    rotation.Kind
		written int64
		want    string
	}{
		{m, rotation.Rewrap, 20, "1/2:30"},
		{modelOf(3, map[string]int{"": 1, "phone": 1}), rotation.Rewrap, 30, "1/1:30"},
		{modelOf(1, map[string]int{"phone": 3}), rotation.Rekey, 30, "1/3:30"},
		{modelOf(2, map[string]int{"phone": 3}), rotation.Rewrap, 30, "2/3:30"},
	} {
		r := rotator(t, d, db, step.m.Adapter().Box(), step.m, rotation.Options{Kind: step.kind, BatchSize: 10})
		plan, err := r.Plan(t.Context())
		// The key that is at its version moves with the other one.
		if err != nil || plan.Records != step.written || plan.Keys != 2*step.written {
			t.Errorf("Plan() to %s = %+v, %v", step.want, plan, err)
		}
		if result, err := r.Run(t.Context()); err != nil || result.Written != step.written || result.Failed > 0 {
			t.Errorf("Run() to %s = %+v, %v", step.want, result, err)
		}
		if got := versions(step.m); got != step.want {
			t.Errorf("versions are %s, want %s", got, step.want)
		}
		current := step.m.Adapter().Box().Current()
		v, err := r.Verify(t.Context(), rotation.VerifyOptions{Note: true})
		if err != nil || v.Opened != rows || !v.Clean(current) {
			t.Errorf("Verify() of %s = %+v, %v", step.want, v, err)
		}
		if result, err := r.Run(t.Context()); err != nil || result.Written > 0 {
			t.Errorf("Run() again to %s = %+v, %v", step.want, result, err)
		}
	}

	last := modelOf(2, map[string]int{"phone": 3})
	r := rotator(t, d, db, last.Adapter().Box(), last, rotation.Options{Kind: rotation.Rewrap})
	if _, err := r.Retirable(t.Context(), 1); err != nil {
		t.Errorf("Retirable(1) = %v", err)
	}
	_, err := db.Exec("DELETE FROM members")
	must(t, err)
	for _, version := range []int{2, 3} { // no row has them, and the next write will
		if _, err := r.Retirable(t.Context(), version); !errors.Is(err, rotation.ErrNotRetirable) {
			t.Errorf("Retirable(%d) = %v, want ErrNotRetirable", version, err)
		}
	}

	// One key of a record alone, as rotate_kms_key_phone! does.
	insert(t, db, last, []*member{{ID: 1, Email: field.New(new("e")), SSN: field.New(new("s")), Phone: field.New(new("p"))}})
	u := new(member)
	must(t, kmssqlx.Get(t.Context(), db, last, u, "SELECT * FROM members WHERE id = 1"))
	old := *u
	must(t, last.RekeyKey(t.Context(), "phone", u))
	must(t, kmssqlx.Update(t.Context(), db, last, u))
	must(t, kmssqlx.Get(t.Context(), db, last, u, "SELECT * FROM members WHERE id = 1"))
	if rawValue(t, u.Key) != rawValue(t, old.Key) || rawValue(t, u.Email) != rawValue(t, old.Email) || rawValue(t, u.SSN) != rawValue(t, old.SSN) {
		t.Error("RekeyKey(phone) changes what is under the first key")
	}
	if rawValue(t, u.PhoneKey) == rawValue(t, old.PhoneKey) || rawValue(t, u.Phone) == rawValue(t, old.Phone) || *u.Phone.Must() != "p" {
		t.Error("RekeyKey(phone) left the key or its column")
	}
	if err := last.RekeyKey(t.Context(), "fax", u); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("RekeyKey(fax) = %v, want ErrConfig", err)
	}
}

// rawValue is a column as it is written.
func rawValue(t *testing.T, v driver.Valuer) any {
	t.Helper()
	raw, err := v.Value()
	must(t, err)
	return raw
}
