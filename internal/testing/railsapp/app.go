package railsapp

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox/rubyyaml"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// Native is the version that is native; 1, 2 and 3 are Ruby's.
const Native = 8

// App is the models of the application.
type App struct {
	Manifest vectors.RailsManifest
	Native   kmsencrypted.Provider // of version Native
	Box      *kmsencrypted.Box
	Users    *field.Model[User]
	Accounts *field.Model[Account]
	People   *field.Model[Person]
	Notes    *field.Model[Note]
}

// New creates the models under the master keys of a manifest. The native version
// has a key of its own; current is the version to write.
func New(m vectors.RailsManifest, native kmsencrypted.Provider, current int) (*App, error) {
	if m.KeyID != testkey.KeyID {
		return nil, fmt.Errorf("railsapp: key id %q", m.KeyID)
	}
	master, err := lockbox.ParseMasterKey(m.LockboxMasterKey)
	indexKey, err1 := blindindex.ParseMasterKey(m.BlindIndexMasterKey)
	indexKeyV2, err2 := blindindex.ParseMasterKey(m.BlindIndexV2Key)
	if err := errors.Join(err, err1, err2); err != nil {
		return nil, err
	}
	ibanV2, err := blindindex.Derive(indexKeyV2, "accounts", "iban_bidx_v2", blindindex.Options{})
	last4, err1 := blindindex.Derive(indexKey, "users", "phone_last4_bidx", blindindex.Options{Size: 16, Expression: fromFourthLast})
	ruby := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}
	box, err2 := kmsencrypted.Config{Current: current, AllowInsecure: true, UpgradeContext: true, Versions: map[int]kmsencrypted.Version{
		1: ruby, 2: ruby, 3: ruby, Native: {Provider: native, RecordSeal: true},
	}}.Box()
	if err := errors.Join(err, err1, err2); err != nil {
		return nil, err
	}
	app := &App{Manifest: m, Native: native, Box: box}
	app.Users, err = field.NewModel[User](box, field.Config{Table: "users", Name: "User", LockboxMasterKey: master, IndexKey: indexKey,
		YAML: rubyyaml.Codec{}, Indexes: map[string]*blindindex.Index{"phone_last4_bidx": last4}})
	app.Accounts, err1 = field.NewModel[Account](box, field.Config{Table: "accounts", Name: "Billing::Account", Context: accountContext,
		IndexKey: indexKey, Indexes: map[string]*blindindex.Index{"iban_bidx_v2": ibanV2}})
	app.People, err2 = field.NewModel[Person](box, field.Config{Table: "people", Name: "Person", Context: personContext})
	err = errors.Join(err, err1, err2)
	app.Notes, err1 = field.NewModel[Note](box, field.Config{Table: "legacy_notes", Name: "LegacyNote"})
	return app, errors.Join(err, err1)
}

// Rows holds the rows of all tables.
type Rows struct {
	Users    []User
	Accounts []Account
	People   []Person
	Notes    []Note
}

// Load reads and opens all tables.
func (a *App) Load(ctx context.Context, db *sqlx.DB) (rows Rows, err error) {
	return rows, errors.Join(
		load(ctx, db, a.Users, &rows.Users), load(ctx, db, a.Accounts, &rows.Accounts),
		load(ctx, db, a.People, &rows.People), load(ctx, db, a.Notes, &rows.Notes))
}

func load[R any](ctx context.Context, db *sqlx.DB, m *field.Model[R], rows *[]R) error {
	// The tables have columns that the structs do not.
	if err := db.Unsafe().SelectContext(ctx, rows, "SELECT * FROM "+m.Table()+" ORDER BY id"); err != nil {
		return err
	}
	return m.Open(ctx, field.Pointers(*rows)...)
}

// Rekey gives all rows data keys of the current version.
func (a *App) Rekey(ctx context.Context, rows Rows) error {
	return errors.Join(
		a.Users.Rekey(ctx, field.Pointers(rows.Users)...), a.Accounts.Rekey(ctx, field.Pointers(rows.Accounts)...),
		a.People.Rekey(ctx, field.Pointers(rows.People)...), a.Notes.Rekey(ctx, field.Pointers(rows.Notes)...))
}

// Check compares opened rows with every value of the manifest, and returns how
// many rows it checked.
func (a *App) Check(rows Rows) (checked int, err error) {
	tables := map[string]map[int64]reflect.Value{
		"users": byID(rows.Users), "accounts": byID(rows.Accounts), "people": byID(rows.People), "legacy_notes": byID(rows.Notes),
	}
	var mistakes []error
	for _, row := range a.Manifest.Rows {
		record, ok := tables[row.Table][row.ID]
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("%s %d is missing", row.Table, row.ID))
			continue
		}
		for attribute, want := range row.Values {
			name := vectors.RailsField(attribute)
			if name == "" {
				continue
			}
			got, err := vectors.RailsPlain(record.FieldByName(name))
			if clock, ok := got.(time.Time); ok && clock.Year() == 0 {
				got = clock.AddDate(2000, 0, 0) // a time of day: Ruby reads it as of 2000, the native form as of year 0
			}
			if err == nil {
				err = want.Check(got)
			}
			if err != nil {
				mistakes = append(mistakes, fmt.Errorf("%s %d %s: %w", row.Table, row.ID, attribute, err))
			}
		}
		checked++
	}
	return checked, errors.Join(mistakes...)
}

func byID[R any](rows []R) map[int64]reflect.Value {
	m := make(map[int64]reflect.Value, len(rows))
	for _, row := range rows {
		v := reflect.ValueOf(row)
		m[v.FieldByName("ID").Int()] = v
	}
	return m
}
