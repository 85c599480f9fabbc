package field_test

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox/rubyyaml"
)

// railsPatient is a table where Rails' encrypts has every option.
type railsPatient struct {
	ID       int64                      `db:"id"`
	Email    field.Of[*string]          `db:"email" kms:"activerecord,deterministic"`
	Handle   field.Of[*string]          `db:"handle" kms:"activerecord,deterministic,downcase"`
	City     field.Of[*string]          `db:"original_city" kms:"activerecord"`
	CityFind field.Of[*string]          `db:"city" kms:"activerecord,ignore_case=City"`
	Phone    field.Of[*string]          `db:"phone" kms:"activerecord,deterministic"`
	Fax      field.Of[*string]          `db:"fax" kms:"activerecord,deterministic"`
	PIN      field.Of[*int64]           `db:"pin" kms:"activerecord,deterministic"`
	Note     field.Of[*string]          `db:"note" kms:"activerecord"`
	Bio      field.Of[*string]          `db:"bio" kms:"activerecord"`
	Empty    field.Of[*string]          `db:"empty" kms:"activerecord"`
	Code     field.Of[*string]          `db:"code" kms:"activerecord"`
	Sealed   field.Of[*string]          `db:"sealed" kms:"activerecord"`
	Memo     field.Of[*string]          `db:"memo" kms:"activerecord"`
	Visits   field.Of[*int64]           `db:"visits" kms:"activerecord"`
	Score    field.Of[*float64]         `db:"score" kms:"activerecord"`
	Balance  field.Of[*lockbox.Decimal] `db:"balance" kms:"activerecord"`
	Active   field.Of[*bool]            `db:"active" kms:"activerecord"`
	Birthday field.Of[*time.Time]       `db:"birthday" kms:"activerecord,type=date"`
	SeenAt   field.Of[*time.Time]       `db:"seen_at" kms:"activerecord"`
	OpensAt  field.Of[*time.Time]       `db:"opens_at" kms:"activerecord,type=time"`
	Profile  field.Of[any]              `db:"profile" kms:"activerecord"`
	Settings field.Of[any]              `db:"settings" kms:"activerecord"`
	Tags     field.Of[[]any]            `db:"tags" kms:"activerecord,type=array"`
	Prefs    field.Of[any]              `db:"prefs" kms:"activerecord"`
	Photo    field.Of[[]byte]           `db:"photo" kms:"activerecord,binary"`
	Scan     field.Of[[]byte]           `db:"scan" kms:"activerecord,binary"`
}

// nullable is a field of any type.
type nullable interface {
	driver.Valuer
	IsNull() bool
}

// railsManifest is what a Rails application wrote to a database, with its settings.
type railsManifest struct {
	Config struct {
		PrimaryKey       []string            `json:"primary_key"`
		DeterministicKey string              `json:"deterministic_key"`
		Salt             string              `json:"key_derivation_salt"`
		Digest           activerecord.Digest `json:"hash_digest_class"`
		SHA1Fallback     bool                `json:"support_sha1_for_non_deterministic_encryption"`
		KeyReferences    bool                `json:"store_key_references"`
		Plaintext        bool                `json:"support_unencrypted_data"`
	}
	Rows []struct {
		ID         int64
		Values     map[string]vectors.RailsValue
		Find       map[string]vectors.RailsValue
		OldColumns []string `json:"old_columns"`
	}
}

func (m railsManifest) model(t *testing.T) *field.Model[railsPatient] {
	t.Helper()
	config := activerecord.Config{
		PrimaryKeys:      activerecord.Passwords(m.Config.PrimaryKey...),
		DeterministicKey: activerecord.Password(m.Config.DeterministicKey),
		Salt:             m.Config.Salt,
		Digest:           m.Config.Digest,
		SHA1Fallback:     m.Config.SHA1Fallback,
		KeyReferences:    m.Config.KeyReferences,
	}
	if m.Config.Plaintext {
		config.Plaintext = activerecord.PlaintextRead
	}
	encryption, err := activerecord.New(config)
	must(t, err)
	before := []activerecord.Scheme{{Deterministic: true, Keys: activerecord.Passwords("old deterministic key")}}
	return newModel[railsPatient](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{
		Table:        "patients",
		YAML:         rubyyaml.Codec{},
		ActiveRecord: encryption,
		ActiveRecordSchemes: map[string]activerecord.Scheme{
			"phone":  {Previous: before},
			"fax":    {NotFixed: true, Previous: before},
			"code":   {Keys: activerecord.Passwords("own key of one attribute")},
			"sealed": {Envelope: true},
			"memo":   {Previous: []activerecord.Scheme{{Keys: activerecord.Passwords("old own key")}}},
			"scan":   {MessagePack: true},
		},
	})
}

// Every value that Rails wrote under encrypts is read, found, and written again with the
// same bytes where it is deterministic.
func TestRailsActiveRecord(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"modern", "legacy"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			manifestFile := "activerecord/" + name + ".json"
			var manifest railsManifest
			vectors.LoadRails(t, manifestFile, &manifest)
			db, err := sqlx.Open("sqlite", vectors.RailsDatabase(t, "activerecord/"+name+".sqlite3"))
			must(t, err)
			defer db.Close()
			m := manifest.model(t)
			rows := selectAll(t, db.Unsafe(), m)
			if len(rows) != len(manifest.Rows) {
				t.Fatalf("%d rows, want %d", len(rows), len(manifest.Rows))
			}
			values, found, same := 0, 0, 0
			for i, want := range manifest.Rows {
				row := &rows[i]
				for attribute, value := range want.Values {
					got := plainOf(t, reflect.ValueOf(row).Elem().FieldByName(vectors.RailsField(attribute)))
					if err := value.Check(got); err != nil {
						t.Errorf("patient %d %s: %v", want.ID, attribute, err)
					}
					values++
				}
				for attribute, value := range want.Find {
					if !slices.Contains(railsFind(t, db, m, attribute, value), want.ID) {
						t.Errorf("patient %d is not found by its %s", want.ID, attribute)
					}
					found++
				}
				same += railsWriteAgain(t, m, row, want.OldColumns)
			}
			if same == 0 {
				t.Error("no deterministic column was compared")
			}
			vectors.Ran(t, manifestFile, values+found+same)
		})
	}
}

// railsFind looks an attribute up and returns the ids of the rows found.
func railsFind(t *testing.T, db *sqlx.DB, m *field.Model[railsPatient], attribute string, value vectors.RailsValue) (ids []int64) {
	t.Helper()
	var sought any
	must(t, json.Unmarshal(value.V, &sought))
	name := vectors.RailsField(attribute)
	switch attribute {
	case "pin":
		var n int
		_, err := fmt.Sscan(sought.(string), &n)
		must(t, err)
		sought = n
	case "city":
		name = "CityFind"
	}
	lookup := m.Lookup(name, sought)
	must(t, lookup.Err())
	marks := strings.Repeat(", ?", len(lookup.Columns))[2:]
	must(t, db.SelectContext(t.Context(), &ids, "SELECT id FROM patients WHERE "+lookup.Name+" IN ("+marks+")", lookup.Args()...))
	for _, id := range ids {
		var row railsPatient
		must(t, db.Unsafe().GetContext(t.Context(), &row, "SELECT * FROM patients WHERE id = ?", id))
		must(t, m.Open(t.Context(), &row))
		if ok, err := lookup.Matches(&row); err != nil || !ok {
			t.Errorf("Matches(patient %d) by %s = %t, %v", id, attribute, ok, err)
		}
	}
	return ids
}

// railsWriteAgain seals the values of a row in a new one and returns how many
// deterministic columns have the bytes that Rails wrote.
func railsWriteAgain(t *testing.T, m *field.Model[railsPatient], row *railsPatient, old []string) (same int) {
	t.Helper()
	again := *row
	must(t, m.SealNew(t.Context(), &again))
	for _, c := range []struct {
		name        string
		read, wrote nullable
	}{
		{"email", row.Email, again.Email}, {"handle", row.Handle, again.Handle}, {"city", row.CityFind, again.CityFind},
		{"phone", row.Phone, again.Phone}, {"fax", row.Fax, again.Fax}, {"pin", row.PIN, again.PIN},
	} {
		if c.read.IsNull() || slices.Contains(old, c.name) || slices.Contains(old, c.name+":plain") {
			continue
		}
		if got, want := column(t, c.wrote), column(t, c.read); got != want {
			t.Errorf("patient %d %s is written as %v, want %v", row.ID, c.name, got, want)
		}
		same++
	}
	var read railsPatient
	for i := range reflect.TypeFor[railsPatient]().NumField() {
		from, to := reflect.ValueOf(&again).Elem().Field(i), reflect.ValueOf(&read).Elem().Field(i)
		if scanner, ok := to.Addr().Interface().(interface{ Scan(any) error }); ok {
			must(t, scanner.Scan(column(t, from.Interface().(driver.Valuer))))
		}
	}
	must(t, m.Open(t.Context(), &read))
	return same
}
