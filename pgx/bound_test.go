package kmspgx_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
)

// A row whose encryption context the database spells otherwise would never open.
func contextsInAnotherSpelling(t *testing.T, e *env) {
	const lower, upper = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"
	config := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {
		Provider: kmstest.Memory(),
		Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"tenant": s.Record.(*document).Tenant, "id": s.ID[0]}, nil
		},
	}}}
	for i, c := range []struct{ column, kept, respelled string }{
		{"citext", "Ä", ""},
		{"uuid", lower, upper},
		{"char(10)", "a         ", "a"},
		{"varchar(10) ", "a", "A"}, // with a trigger
	} {
		own := &env{e.db, fmt.Sprint(e.table, "_", i)}
		m := model[document](t, own, config)
		createTable(t, own, m, identity+", tenant_id "+c.column+" NOT NULL")
		if c.respelled == "A" {
			own.exec(t, "CREATE FUNCTION "+own.table+"_lower() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tenant_id := lower(NEW.tenant_id); RETURN NEW; END $$")
			own.exec(t, "CREATE TRIGGER lowers BEFORE INSERT OR UPDATE ON "+own.table+" FOR EACH ROW EXECUTE FUNCTION "+own.table+"_lower()")
		}
		own.insertsFor(t, m, c.column, c.kept, nil)
		if c.respelled != "" {
			own.insertsFor(t, m, c.column, c.respelled, kmsencrypted.ErrLossy)
			own.movesTo(t, m, c.kept, c.respelled)
		}
	}
}

// insertsFor inserts records of a tenant, the last of a list, with ids of the database
// and its own.
func (e *env) insertsFor(t *testing.T, m *field.Model[document], column, tenant string, want error) {
	t.Helper()
	for name, insert := range map[string]func(context.Context, kmspgx.DB, ...*document) error{
		"Insert": func(ctx context.Context, db kmspgx.DB, rows ...*document) error {
			return kmspgx.Insert(ctx, db, m, rows...)
		},
		"CopyFrom": func(ctx context.Context, db kmspgx.DB, rows ...*document) error {
			return kmspgx.CopyFrom(ctx, db, m, rows...)
		},
		"Batch": func(ctx context.Context, db kmspgx.DB, rows ...*document) error {
			var b kmspgx.Batch
			kmspgx.QueueInsert(&b, m, rows...)
			return b.Send(ctx, db)
		},
	} {
		for n := 1; n <= 2; n++ {
			for _, id := range []int64{0, 70} {
				what := fmt.Sprintf("%s of %d for %q in %s with id %d", name, n, tenant, column, id)
				rows := make([]*document, n)
				for i := range rows {
					rows[i] = &document{Tenant: tenant, Body: field.New(email(i))}
					if id > 0 {
						rows[i].ID = id + int64(i)
					}
				}
				tx, err := e.db.Begin(t.Context())
				must(t, err)
				err = insert(t.Context(), tx, rows...)
				must(t, tx.Commit(t.Context())) // whatever became of it
				if !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
				if failures, ok := errors.AsType[field.Failures](err); want != nil && n > 1 && (!ok || failures[0].Index != 0) {
					t.Errorf("%s: %v does not name record 0", what, err)
				}
				if read := collect(t, e, m, ""); len(read) != map[bool]int{true: n}[want == nil] {
					t.Errorf("%s: %d rows", what, len(read))
				}
				e.exec(t, "DELETE FROM "+e.table)
			}
		}
	}
}

func (e *env) movesTo(t *testing.T, m *field.Model[document], from, to string) {
	t.Helper()
	for name, move := range map[string]func(*document) error{
		"Update": func(c *document) error { return kmspgx.Update(t.Context(), e.db, m, c, "tenant_id") },
		"Rekey":  func(c *document) error { return kmspgx.Rekey(t.Context(), e.db, m, c) },
		"Batch": func(c *document) error {
			var b kmspgx.Batch
			kmspgx.QueueUpdate(&b, m, c, "tenant_id")
			return b.Send(t.Context(), e.db)
		},
	} {
		row := document{Tenant: from, Body: field.New(email(0))}
		must(t, kmspgx.Insert(t.Context(), e.db, m, &row))
		c := one(t, e, m, row.ID)
		c.Tenant = to
		wantError(t, name+" to "+to, move(&c), kmsencrypted.ErrLossy)
		if now := one(t, e, m, row.ID); now.Tenant != from || now.Body.Must() != email(0) {
			t.Errorf("%s to %q was refused, and the row is of %q", name, to, now.Tenant)
		}
		c.Tenant = from
		must(t, move(&c))
		e.exec(t, "DELETE FROM "+e.table)
	}
}
