package kmspgx_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/inplace"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
)

func updateWritesWhatChanged(t *testing.T, e *env) {
	s := e.customers(t)
	id := s.insert(t, 1)[0].ID
	c, other := s.get(t, id), s.get(t, id)

	// Two programs change different columns: neither undoes the other's change.
	c.Email.Set(email(1))
	other.Name, other.Status = "Ada", new("gone")
	must(t, kmspgx.Update(t.Context(), e.db, s.Model, &c))
	must(t, kmspgx.Update(t.Context(), e.db, s.Model, &other, "name"))
	if got := s.get(t, id); got.Email.Must() != email(1) || got.Name != "Ada" || got.Status != nil || got.Shout != "ADA" {
		t.Errorf("after two updates: %+v", got)
	}
	must(t, kmspgx.Update(t.Context(), e.db, s.Model, &other, "*"))
	c.Born.Set(time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC))
	c.Email.SetNull()
	must(t, kmspgx.Update(t.Context(), e.db, s.Model, &c))
	if got := s.get(t, id); !got.Email.IsNull() || got.Born.Must().Year() != 1815 || *got.Status != "gone" {
		t.Errorf("after setting NULL: %+v", got)
	}
	for _, name := range []string{"shout", "email_ciphertext", "encrypted_kms_key", "id", "nonsense"} {
		wantError(t, "an update of "+name, kmspgx.Update(t.Context(), e.db, s.Model, &c, name), kmsencrypted.ErrConfig)
	}
	must(t, kmspgx.Update(t.Context(), e.db, s.Model, &c)) // nothing to write
}

// versions are models at version 1 and at version 2 of the same table.
func versions(t *testing.T, e *env) (old, current store) {
	t.Helper()
	config := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}, 2: {Provider: kmstest.Memory()}}}
	old = store{env: e, Model: model[customer](t, e, config)}
	config.Current = 2
	current = store{env: e, Model: model[customer](t, e, config)}
	createTable(t, e, old.Model, identity+", "+plainColumns)
	return old, current
}

func updateConflicts(t *testing.T, e *env) {
	old, current := versions(t, e)
	id := old.insert(t, 1)[0].ID
	mine, theirs := old.get(t, id), old.get(t, id)
	must(t, kmspgx.Rewrap(t.Context(), e.db, current.Model, &theirs))
	mine.Email.Set(email(1))
	must(t, kmspgx.Update(t.Context(), e.db, old.Model, &mine)) // the data key is the same
	if got := current.get(t, id); got.Email.Must() != email(1) {
		t.Error("an update after a rewrap was lost")
	}
	mine, theirs = old.get(t, id), old.get(t, id)
	must(t, kmspgx.Rekey(t.Context(), e.db, current.Model, &theirs))
	mine.Email.Set(email(2))
	wantError(t, "update after a rekey", kmspgx.Update(t.Context(), e.db, old.Model, &mine), kmsencrypted.ErrConflict)
	mine, theirs = old.get(t, id), old.get(t, id)
	mine.Email.Set(email(3))
	must(t, kmspgx.Update(t.Context(), e.db, old.Model, &mine))
	wantError(t, "rekey after an update", kmspgx.Rekey(t.Context(), e.db, current.Model, &theirs), kmsencrypted.ErrConflict)
	if got := current.get(t, id); got.Email.Must() != email(3) {
		t.Error("a refused write changed the row")
	}
	// Two programs give a row its first data key.
	empty := customer{Name: "empty"}
	must(t, kmspgx.Insert(t.Context(), e.db, old.Model, &empty))
	mine, theirs = old.get(t, empty.ID), old.get(t, empty.ID)
	mine.Email.Set(email(4))
	theirs.Phone.Set(new("phone@" + secret))
	must(t, kmspgx.Update(t.Context(), e.db, old.Model, &mine))
	wantError(t, "the second first key", kmspgx.Update(t.Context(), e.db, old.Model, &theirs), kmsencrypted.ErrConflict)
}

func updateGone(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 1)
	c := s.get(t, all[0].ID)
	must(t, kmspgx.Delete(t.Context(), e.db, s.Model, &all[0]))
	c.Email.Set(email(1))
	wantError(t, "update of a row that is gone", kmspgx.Update(t.Context(), e.db, s.Model, &c), pgx.ErrNoRows)
	wantError(t, "rekey of a row that is gone", kmspgx.Rekey(t.Context(), e.db, s.Model, &c), pgx.ErrNoRows)
	wantError(t, "delete of a row that is gone", kmspgx.Delete(t.Context(), e.db, s.Model, &c), pgx.ErrNoRows)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "context ended", kmspgx.Update(ended, e.db, s.Model, &c), context.Canceled)
	if s.count(t) != 0 {
		t.Error("an update made a row")
	}
}

// A column that is bound to a plain one takes it along into the database.
func updateBoundTo(t *testing.T, e *env) {
	type user struct {
		ID    int64            `db:"id"`
		Name  string           `db:"name"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext" kms:"lockbox,ad=Name"`
	}
	m := model[user](t, e, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory(), Format: kmsencrypted.Ruby}}})
	createTable(t, e, m, identity+", name varchar(20)")
	all := []user{{Name: "Ada", Email: field.New(email(0))}, {Name: "Grace", Email: field.New(email(1))}}
	must(t, kmspgx.Insert(t.Context(), e.db, m, field.Pointers(all)...))
	all[0].Name, all[1].Name = "Countess", "Admiral"
	all[0].Email.Set(email(2))
	all[1].Email.Set(email(3))
	must(t, kmspgx.Update(t.Context(), e.db, m, &all[0])) // the name is not mentioned
	var b kmspgx.Batch
	kmspgx.QueueUpdate(&b, m, &all[1])
	must(t, b.Send(t.Context(), e.db))
	read := collect(t, e, m, "ORDER BY id")
	if read[0].Name != "Countess" || read[0].Email.Must() != email(2) || read[1].Name != "Admiral" || read[1].Email.Must() != email(3) {
		t.Errorf("after the updates: %+v", read)
	}
}

func rotateOne(t *testing.T, e *env) {
	old, current := versions(t, e)
	id := old.insert(t, 1)[0].ID
	c := old.get(t, id)
	before, _ := c.Email.Value()
	must(t, kmspgx.Rewrap(t.Context(), e.db, current.Model, &c))
	rewrapped := current.get(t, id)
	same, _ := rewrapped.Email.Value()
	if v, _ := rewrapped.Key.Version(); v != 2 || same != before || rewrapped.Email.Must() != email(0) {
		t.Errorf("Rewrap: version %d", v)
	}
	must(t, kmspgx.Rekey(t.Context(), e.db, current.Model, &c))
	rekeyed := current.get(t, id)
	if other, _ := rekeyed.Email.Value(); other == before || rekeyed.Email.Must() != email(0) {
		t.Error("Rekey left a column as it was")
	}
	// A column that the model does not know would be lost with the old data key.
	e.exec(t, "ALTER TABLE "+e.table+" ADD fax_ciphertext text")
	e.db.Reset() // plans of before
	wantError(t, "a rekey beside an unknown column", kmspgx.Rekey(t.Context(), e.db, current.Model, &rekeyed), kmsencrypted.ErrConfig)
}

// With a record seal every update rewrites the key column.
func recordSeal(t *testing.T, e *env) {
	s := e.customers(t, func(v *kmsencrypted.Version) { v.RecordSeal = true })
	id := s.insert(t, 1)[0].ID
	mine, theirs := s.get(t, id), s.get(t, id)
	mine.Email.Set(email(1))
	theirs.Phone.Set(new("phone@" + secret))
	var b, late kmspgx.Batch
	kmspgx.QueueUpdate(&b, s.Model, &mine)
	kmspgx.QueueUpdate(&late, s.Model, &theirs)
	must(t, b.Send(t.Context(), e.db))
	wantError(t, "a second writer under a record seal", late.Send(t.Context(), e.db), kmsencrypted.ErrConflict)
	e.exec(t, "UPDATE "+e.table+" SET email_ciphertext = NULL")
	rows, _ := e.db.Query(t.Context(), "SELECT * FROM "+e.table)
	_, err := kmspgx.CollectRows(t.Context(), rows, s.Model)
	wantError(t, "a column emptied", err, kmsencrypted.ErrRecordSeal)
}

func severalKeys(t *testing.T, e *env) {
	type user struct {
		ID       int64            `db:"id"`
		Key      field.Key        `db:"encrypted_kms_key"`
		Email    field.Of[string] `db:"email_ciphertext"`
		PhoneKey field.Key        `db:"encrypted_kms_key_phone" kms:"name=phone"`
		Phone    field.Of[string] `db:"phone_ciphertext" kms:"key=phone"`
	}
	config := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}, 2: {Provider: kmstest.Memory()}}}
	old := model[user](t, e, config)
	config.Current = 2
	current := model[user](t, e, config)
	createTable(t, e, old, identity)
	u := user{Email: field.New(email(0)), Phone: field.New("phone@" + secret)}
	must(t, kmspgx.CopyFrom(t.Context(), e.db, old, &u))
	// Both keys are rewrapped while somebody changes a column under each.
	mine, theirs := one(t, e, old, u.ID), one(t, e, old, u.ID)
	must(t, kmspgx.Rewrap(t.Context(), e.db, current, &theirs))
	mine.Email.Set(email(1))
	mine.Phone.Set("fax@" + secret)
	var b kmspgx.Batch
	kmspgx.QueueUpdate(&b, old, &mine)
	must(t, b.Send(t.Context(), e.db))
	if got := one(t, e, current, u.ID); got.Email.Must() != email(1) || got.Phone.Must() != "fax@"+secret {
		t.Error("an update under two rewrapped keys was lost")
	}
}

// A program that may not decrypt writes, and reads nothing.
func encryptOnly(t *testing.T, e *env) {
	k := kmstest.NewService(kmstest.Memory())
	config := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: k.Provider(), EncryptOnly: true}}}
	box, err := config.Box()
	must(t, err)
	indexKey, err := blindindex.NewMasterKey([]byte(strings.Repeat("k", blindindex.KeySize)))
	must(t, err)
	writer, err := field.NewModel[customer](box, field.Config{Table: e.table, IndexKey: indexKey, Complete: true})
	must(t, err)
	config.Versions = map[int]kmsencrypted.Version{1: {Provider: k.Provider()}}
	reader := store{e, model[customer](t, e, config), k}
	createTable(t, e, writer, identity+", "+plainColumns)
	all := newCustomers(3)
	var b kmspgx.Batch
	kmspgx.QueueInsert(&b, writer, &all[0])
	_, unwraps := calls(k, func() {
		must(t, kmspgx.CopyFrom(t.Context(), e.db, writer, &all[1]))
		must(t, kmspgx.Insert(t.Context(), e.db, writer, &all[2]))
		must(t, b.Send(t.Context(), e.db))
	})
	if unwraps != 0 {
		t.Errorf("%d calls to decrypt", unwraps)
	}
	for i, c := range all {
		if reader.get(t, c.ID).Email.Must() != email(i) {
			t.Errorf("record %d", i)
		}
	}
	// A closed record gets a new data key only if nothing is lost with the old one.
	rows, _ := e.db.Query(t.Context(), "SELECT * FROM "+e.table+" WHERE id = $1", all[0].ID)
	closed, err := pgx.CollectOneRow(rows, pgx.RowToStructByNameLax[customer])
	must(t, err)
	closed.Email.Set(email(7))
	var lossy kmspgx.Batch
	kmspgx.QueueUpdate(&lossy, writer, &closed)
	wantError(t, "an update that would lose a column", lossy.Send(t.Context(), e.db), kmsencrypted.ErrNeedsDecrypt)
	closed.Born.Set(time.Unix(0, 0))
	closed.Phone.SetNull()
	must(t, kmspgx.Update(t.Context(), e.db, writer, &closed))
	if reader.get(t, all[0].ID).Email.Must() != email(7) {
		t.Error("an update without decrypting was lost")
	}
}

// document belongs to a tenant with a key of its own.
type document struct {
	ID     int64            `db:"id"`
	Tenant string           `db:"tenant_id" kms:"context"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Body   field.Of[string] `db:"body_ciphertext"`
}

func tenants(t *testing.T, e *env) {
	keys := map[string]kmsencrypted.Provider{"a": kmstest.Memory(), "b": kmstest.Memory()}
	tenantOf := func(s kmsencrypted.Subject) string { return s.Record.(*document).Tenant }
	m := model[document](t, e, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {
		Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"tenant": tenantOf(s), "id": s.ID[0]}, nil
		},
		ProviderFor: func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
			if p, ok := keys[tenantOf(s)]; ok {
				return p, nil
			}
			return nil, kmsencrypted.ErrKeyUnusable
		},
	}}})
	createTable(t, e, m, identity+", tenant_id varchar(20) NOT NULL")
	all := []document{{Tenant: "a", Body: field.New(email(0))}, {Tenant: "b", Body: field.New(email(1))}}
	must(t, kmspgx.CopyFrom(t.Context(), e.db, m, field.Pointers(all)...))
	nobody := document{Tenant: "nobody's", Body: field.New(email(2))}
	wantError(t, "insert without a key", kmspgx.Insert(t.Context(), e.db, m, &nobody), kmsencrypted.ErrKeyUnusable)

	// Moved to another tenant, alone and in a batch: the column goes along.
	c, stale := one(t, e, m, all[0].ID), one(t, e, m, all[0].ID)
	c.Tenant = "b"
	must(t, kmspgx.Update(t.Context(), e.db, m, &c, "tenant_id"))
	stale.Body.Set(email(5))
	wantError(t, "a change beside a move", kmspgx.Update(t.Context(), e.db, m, &stale), kmsencrypted.ErrConflict)
	c = one(t, e, m, all[1].ID)
	c.Tenant = "a"
	var b, failing kmspgx.Batch
	kmspgx.QueueUpdate(&b, m, &c, "tenant_id")
	must(t, b.Send(t.Context(), e.db))
	for i, tenant := range []string{"b", "a"} {
		if got := one(t, e, m, all[i].ID); got.Tenant != tenant || got.Body.Must() != email(i) {
			t.Errorf("moved: the record is of tenant %s", got.Tenant)
		}
	}
	c.Tenant = "nobody's"
	kmspgx.QueueUpdate(&failing, m, &c, "tenant_id")
	wantError(t, "a move to a tenant without a key", failing.Send(t.Context(), e.db), kmsencrypted.ErrKeyUnusable)
}

// What random programs change in place is in the row after the next write.
func inPlace(t *testing.T, e *env) {
	config := oneKey()
	newModel := func() *field.Model[inplace.Doc] {
		box, err := config.Box()
		must(t, err)
		m, err := field.NewModel[inplace.Doc](box, field.Config{Table: e.table})
		must(t, err)
		return m
	}
	m := newModel()
	columns, err := m.DDL(field.Postgres)
	must(t, err)
	statement := "CREATE TABLE " + e.table + " (" + identity
	for _, column := range columns {
		statement += ", " + column
	}
	e.exec(t, statement+")")
	read := func(ctx context.Context, m *field.Model[inplace.Doc], id int64) (inplace.Doc, error) {
		rows, _ := e.db.Query(ctx, "SELECT * FROM "+e.table+" WHERE id = $1", id)
		return kmspgx.CollectOneRow(ctx, rows, m)
	}
	store := inplace.Store{
		Insert: func(ctx context.Context, d *inplace.Doc) error { return kmspgx.Insert(ctx, e.db, m, d) },
		Update: func(ctx context.Context, d *inplace.Doc) error {
			var b kmspgx.Batch
			kmspgx.QueueUpdate(&b, m, d)
			return b.Send(ctx, e.db)
		},
		Rekey: func(ctx context.Context, d *inplace.Doc) error { return kmspgx.Rekey(ctx, e.db, m, d) },
		Read:  func(ctx context.Context, id int64) (inplace.Doc, error) { return read(ctx, m, id) },
		Fresh: func(ctx context.Context, id int64) (inplace.Doc, error) { return read(ctx, newModel(), id) },
	}
	for seed := range uint64(20) {
		inplace.Run(t, seed, store)
	}
}

// Writers, each the owner of one column, give first keys, update and rotate at once.
// Every row opens at the end, and holds every write that was acknowledged.
func writers(t *testing.T, e *env) {
	_, s := versions(t, e)
	const rows, rounds = 10, 4
	all := make([]customer, rows)
	for i := range all {
		all[i].Name = fmt.Sprint("name", i) // without a key as yet
	}
	must(t, kmspgx.Insert(t.Context(), e.db, s.Model, field.Pointers(all)...))
	deadline := time.Now().Add(time.Minute)
	var wg sync.WaitGroup
	for w := range 2 * rows {
		wg.Go(func() {
			for round := range rounds {
				repeat(t, deadline, func() error { return s.change(t.Context(), all[w/2].ID, w%2, round) })
			}
		})
	}
	wg.Wait()
	for _, c := range collect(t, e, s.Model, "") {
		if c.Email.Must() != email(rounds-1) || *c.Phone.Must() != email(rounds-1) {
			t.Errorf("%s: a write that was acknowledged is gone", c.Name)
		}
	}
}

// change writes one column of a row, by one of the ways to do so, and may rotate it.
func (s store) change(ctx context.Context, id int64, which, n int) error {
	rows, _ := s.db.Query(ctx, "SELECT * FROM "+s.table+" WHERE id = $1", id)
	c, err := kmspgx.CollectOneRow(ctx, rows, s.Model)
	if err != nil {
		return err
	}
	if which == 0 {
		c.Email.Set(email(n))
	} else {
		c.Phone.Set(new(email(n)))
	}
	switch rand.IntN(3) {
	case 0:
		return kmspgx.Rekey(ctx, s.db, s.Model, &c)
	case 1:
		var b kmspgx.Batch
		kmspgx.QueueUpdate(&b, s.Model, &c)
		return b.Send(ctx, s.db)
	}
	return kmspgx.Update(ctx, s.db, s.Model, &c)
}

// repeat does what a program does about a conflict.
func repeat(t *testing.T, deadline time.Time, f func() error) {
	for {
		err := f()
		switch {
		case err == nil:
			return
		case !errors.Is(err, kmsencrypted.ErrConflict) || time.Now().After(deadline):
			t.Error(err)
			return
		}
	}
}
