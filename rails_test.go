package kmsencrypted_test

import (
	"database/sql"
	"fmt"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// railsKey is a key column of a Rails row with what its context is made of.
type railsKey struct {
	table, column, text string
	id                  int64
	model, uuid, tenant string
}

// context is what the application's models give as context (the README of
// the databases says which).
func (k railsKey) context(version int) (kmsencrypted.EncryptionContext, error) {
	if k.table == "accounts" && version == 2 {
		return kmsencrypted.OrderedContext{
			{Name: "uuid", Value: k.uuid}, {Name: "tenant", Value: k.tenant}, {Name: "purpose", Value: "account <&>", StringName: true},
		}, nil
	}
	return kmsencrypted.Context{"model_name": k.model, "model_id": k.id}, nil
}

func (k railsKey) binding() kmsencrypted.Binding {
	return kmsencrypted.Binding{Table: k.table, Column: k.column, ID: []string{fmt.Sprint(k.id)}, Context: kmsencrypted.VersionedContext(k.context)}
}

// railsKeyQueries read every key column of the two databases.
var railsKeyQueries = map[string][]string{
	"rails.sqlite3": {
		`SELECT 'users', 'encrypted_kms_key', encrypted_kms_key, id, 'User', '', '' FROM users`,
		`SELECT 'users', 'encrypted_kms_key_phone', encrypted_kms_key_phone, id, 'User', '', '' FROM users`,
		`SELECT 'accounts', 'encrypted_kms_key', encrypted_kms_key, id, 'Billing::Account', uuid, tenant FROM accounts`,
		`SELECT 'people', 'encrypted_kms_key', encrypted_kms_key, id, coalesce(type, 'Person'), '', '' FROM people`,
		`SELECT 'legacy_notes', 'encrypted_kms_key', encrypted_kms_key, id, 'LegacyNote', '', '' FROM legacy_notes`,
	},
	"storage.sqlite3": {`SELECT 'documents', 'encrypted_kms_key', encrypted_kms_key, id, 'Document', '', '' FROM documents`},
}

func railsKeys(t *testing.T, database string) (keys []railsKey) {
	t.Helper()
	db, err := sql.Open("sqlite", vectors.RailsDatabase(t, database))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, query := range railsKeyQueries[database] {
		rows, err := db.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var k railsKey
			var text sql.NullString
			if err := rows.Scan(&k.table, &k.column, &text, &k.id, &k.model, &k.uuid, &k.tenant); err != nil {
				t.Fatal(err)
			}
			if k.text = text.String; text.Valid {
				keys = append(keys, k)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

// Every key column that Rails wrote opens, moves to another version of Ruby's
// form and back, and is then byte for byte what Rails wrote.
func TestRailsKeyColumns(t *testing.T) {
	var manifest vectors.RailsManifest
	vectors.LoadRails(t, "manifest.json", &manifest)
	provider := testProvider(t, manifest.KeyID)
	other, err := local.Create(t.TempDir() + "/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	// Numbers beyond those that the application used.
	ruby := func(p kmsencrypted.Provider) kmsencrypted.Version {
		return kmsencrypted.Version{Provider: p, Format: kmsencrypted.Ruby}
	}
	box := func(current int) *kmsencrypted.Box {
		return newBox(t, kmsencrypted.Config{Current: current, UpgradeContext: true, AllowInsecure: true, Versions: map[int]kmsencrypted.Version{
			1: ruby(provider), 2: ruby(provider), 9: ruby(other),
		}})
	}
	found := 0
	for database := range railsKeyQueries {
		if !vectors.HasRails(database) {
			continue
		}
		found++
		keys := railsKeys(t, database)
		for _, k := range keys {
			version := kmsencrypted.ColumnVersion(k.text)
			opened, err := box(version).Unwrap(t.Context(), k.text, k.binding())
			if err != nil {
				t.Errorf("%s %d %s: %v", k.table, k.id, k.column, err)
				continue
			}
			moved, err := box(9).Rewrap(t.Context(), k.text, k.binding())
			if err != nil {
				t.Errorf("%s %d %s: %v", k.table, k.id, k.column, err)
				continue
			}
			back, err := box(version).Rewrap(t.Context(), moved, k.binding())
			if err != nil {
				t.Errorf("%s %d %s: %v", k.table, k.id, k.column, err)
				continue
			}
			same, err := box(version).Unwrap(t.Context(), back, k.binding())
			if err != nil || !same.Equal(opened) {
				t.Errorf("%s %d %s: another data key after moving there and back, %v", k.table, k.id, k.column, err)
			}
			if k.table != "legacy_notes" && back != k.text { // those get a version on the way
				t.Errorf("%s %d %s: %q after moving there and back, was %q", k.table, k.id, k.column, back, k.text)
			}
			wrong := k
			wrong.id, wrong.uuid = k.id+1, "another"
			if _, err := box(version).Unwrap(t.Context(), k.text, wrong.binding()); err == nil && k.table != "legacy_notes" {
				t.Errorf("%s %d %s opens under the context of another record", k.table, k.id, k.column)
			}
		}
		vectors.Ran(t, database, len(keys))
	}
	if found == 0 {
		t.Error("the folder has none of the databases")
	}
}
