package branch_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
)

// Package files/attach finds that the keys can be erased, behind a guard too, and makes
// no recovery wraps of what is under them.
func TestErasable(t *testing.T) {
	t.Parallel()
	var p kmsencrypted.Provider = open(t, newDir(t, branch.Limits{}), newService(t), byTenant)
	for what, p := range map[string]kmsencrypted.Provider{"a branch": p, "behind a guard": guard.New(p, guard.Options{})} {
		if e, ok := kmsencrypted.Ability[attach.Erasable](p); !ok || !e.Erasable() {
			t.Errorf("%s is not erasable", what)
		}
		if err := recoverable(t, p); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("attachments under %s, with recovery = %v, want ErrConfig", what, err)
		}
	}
	if err := recoverable(t, kmstest.Memory()); err != nil {
		t.Errorf("attachments under keys that stay, with recovery: %v", err)
	}
}

// recoverable opens attachments with recovery wraps of records under a provider.
func recoverable(t *testing.T, p kmsencrypted.Provider) error {
	t.Helper()
	box, err := kmsencrypted.NewBox(p)
	if err != nil {
		t.Fatal(err)
	}
	type person struct {
		ID  int64     `db:"id"`
		Key field.Key `db:"encrypted_kms_key"`
	}
	model, err := field.NewModel[person](box, field.Config{Table: "persons", Files: true})
	if err != nil {
		t.Fatal(err)
	}
	db := openDB(t, "sqlite", ":memory:", field.SQLite, branch.Limits{})
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE persons (id integer PRIMARY KEY, encrypted_kms_key text)"); err != nil {
		t.Fatal(err)
	}
	_, err = attach.New(t.Context(), db, field.SQLite, model, attach.Config{
		One: []string{"photo"}, Buckets: map[string]attach.Bucket{"main": new(attach.Memory)},
		Recovery: &attach.Recovery{Box: kmstest.Box(t), Store: "shop"},
	})
	return err
}
