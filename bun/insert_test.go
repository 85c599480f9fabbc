package kmsbun_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	kmsbun "github.com/kmsencrypted/kmsencrypted/bun"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// member has what bun makes of tags: a default of the database, NULL for zero, JSON,
// and hooks of its own.
type member struct {
	bun.BaseModel `bun:"table:members"`
	ID            int64             `bun:",pk,autoincrement" db:"id"`
	Name          string            `bun:",notnull" db:"name"`
	Nick          string            `bun:",nullzero" db:"nick"`
	State         string            `bun:",nullzero,notnull,default:'new'" db:"state"`
	Tags          map[string]string `bun:"type:json" db:"-"`
	UpdatedAt     time.Time         `db:"updated_at"`
	DeletedAt     time.Time         `bun:",soft_delete,nullzero" db:"deleted_at"`
	Key           field.Key         `bun:"encrypted_kms_key" db:"encrypted_kms_key"`
	Email         field.Of[string]  `bun:"email_ciphertext" db:"email_ciphertext"`
	EmailIndex    field.Index       `bun:"email_bidx" db:"email_bidx" kms:"of=Email,expression=lower,algorithm=hmac_sha256"`

	normalise bool
}

// BeforeAppendModel sets plain columns, and may change an encrypted one.
func (m *member) BeforeAppendModel(_ context.Context, q bun.Query) error {
	m.UpdatedAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if m.normalise {
		m.Email.Set(strings.ToLower(m.Email.Must()))
	}
	return nil
}

func members(t *testing.T, s server) store[member] {
	t.Helper()
	json := map[field.Dialect]string{field.Postgres: "jsonb", field.MySQL: "text", field.SQLite: "text"}[s.dialect]
	return storeOf[member](t, s, "members", oneKey(), "id "+s.autoID, "name varchar(20) NOT NULL", "nick varchar(20)", "state varchar(20) NOT NULL DEFAULT 'new'",
		"tags "+json, "updated_at "+map[field.Dialect]string{field.Postgres: "timestamptz", field.MySQL: "datetime", field.SQLite: "text"}[s.dialect],
		"deleted_at "+map[field.Dialect]string{field.Postgres: "timestamptz", field.MySQL: "datetime", field.SQLite: "text"}[s.dialect])
}

func (s store[R]) byID(t *testing.T, id any) *R {
	t.Helper()
	r := new(R)
	must(t, s.db.NewSelect().Model(r).Where("id = ?", id).Scan(t.Context()))
	return r
}

func TestInsertAsBun(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		m := members(t, s)
		list := []member{
			{Name: "Ada", Tags: map[string]string{"a": "it's ? b"}, Email: field.New(mail(0))},
			{Name: "Grace", Nick: "Amazing", State: "old"}, // without a value
			{ID: 40, Name: "Alan", Email: field.New(mail(2))},
		}
		r, err := m.db.NewInsert().Model(&list).Exec(t.Context())
		must(t, err)
		if n, err := r.RowsAffected(); err != nil || n != 3 {
			t.Errorf("RowsAffected = %d, %v", n, err)
		}
		if len(list) != 3 || list[0].ID == 0 || list[1].ID == 0 || list[2].ID != 40 || list[0].ID == list[1].ID {
			t.Fatalf("after Insert: %d records, %d %d %d", len(list), list[0].ID, list[1].ID, list[2].ID)
		}
		ada, grace, alan := m.byID(t, list[0].ID), m.byID(t, list[1].ID), m.byID(t, 40)
		if ada.Email.Must() != mail(0) || ada.Tags["a"] != "it's ? b" || ada.State != "new" || ada.UpdatedAt.IsZero() || ada.Nick != "" {
			t.Errorf("Ada: %q %q %v", ada.Tags, ada.State, ada.UpdatedAt)
		}
		if !grace.Email.IsNull() || grace.State != "old" || grace.Nick != "Amazing" || alan.Email.Must() != mail(2) {
			t.Error("another record")
		}
		// With a record alone, and columns that the database returns.
		one := member{Name: "Kurt", Email: field.New(mail(3))}
		q := m.db.NewInsert().Model(&one)
		if s.dialect != field.MySQL {
			q.Returning("*")
		}
		_, err = q.Exec(t.Context())
		must(t, err)
		if one.Email.Must() != mail(3) || s.dialect != field.MySQL && one.State != "new" {
			t.Errorf("after RETURNING *: %q", one.State)
		}
		one.Email.Set(mail(4))
		one.State = "new" // else bun writes NULL
		_, err = m.db.NewUpdate().Model(&one).WherePK().Exec(t.Context())
		must(t, err)
		if m.byID(t, one.ID).Email.Must() != mail(4) {
			t.Error("an update after RETURNING * was lost")
		}
	})
}

// A hook of the program changes an encrypted field after it was sealed.
func TestHookChangesRecord(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		m := members(t, s)
		a := member{Name: "Ada", Email: field.New(mail(0))}
		_, err := m.db.NewInsert().Model(&a).Exec(t.Context())
		must(t, err)
		a.Email.Set(strings.ToUpper(mail(1)))
		a.normalise, a.State = true, "new"
		_, err = m.db.NewUpdate().Model(&a).WherePK().Exec(t.Context())
		must(t, err)
		if got := m.byID(t, a.ID).Email.Must(); got != mail(1) {
			t.Errorf("Email = %s", strings.ReplaceAll(got, secret, "…"))
		}
		for _, id := range []int64{0, 100} {
			list := []member{{ID: id, Name: "Grace", Email: field.New(strings.ToUpper(mail(1))), normalise: true}, {Name: "Kurt", Email: field.New(mail(2)), normalise: true}}
			_, err := m.db.NewInsert().Model(&list).Exec(t.Context())
			must(t, err)
			one := member{ID: id, Name: "Alan", Email: field.New(strings.ToUpper(mail(3))), normalise: true}
			if id != 0 {
				one.ID += 1000
			}
			_, err = m.db.NewInsert().Model(&one).Exec(t.Context())
			must(t, err)
			if m.byID(t, list[0].ID).Email.Must() != mail(1) || m.byID(t, list[1].ID).Email.Must() != mail(2) || m.byID(t, one.ID).Email.Must() != mail(3) {
				t.Error("an insert lost what the hook set")
			}
		}
	})
}

func TestOnConflict(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		m := members(t, s)
		a := member{ID: 7, Name: "Ada", Email: field.New(mail(0))}
		_, err := m.db.NewInsert().Model(&a).Exec(t.Context())
		must(t, err)
		again := member{ID: 7, Name: "Eve", State: "new", Email: field.New(mail(1))}
		if s.dialect == field.MySQL {
			_, err := m.db.NewInsert().Model(&again).Ignore().Exec(t.Context())
			wantError(t, "Ignore", err, errors.ErrUnsupported)
			_, err = m.db.NewInsert().Model(&again).Replace().Exec(t.Context())
			wantError(t, "Replace", err, errors.ErrUnsupported)
			return
		}
		for what, q := range map[string]*bun.InsertQuery{
			"DO NOTHING": m.db.NewInsert().Model(&again).On("CONFLICT DO NOTHING"),
			"a target":   m.db.NewInsert().Model(&again).On("CONFLICT (id) DO NOTHING"),
			"Ignore":     m.db.NewInsert().Model(&again).Ignore(),
		} {
			r, err := q.Exec(t.Context())
			must(t, err)
			if n, _ := r.RowsAffected(); n != 0 {
				t.Errorf("%s: %d rows", what, n)
			}
		}
		if got := m.byID(t, 7); got.Name != "Ada" || got.Email.Must() != mail(0) {
			t.Errorf("after DO NOTHING: %q", got.Name)
		}
		// A record that was not inserted does not overwrite the stored one.
		again.Email.Set(mail(2))
		_, err = m.db.NewUpdate().Model(&again).WherePK().Exec(t.Context())
		wantError(t, "an update of a record that was not inserted", err, kmsencrypted.ErrConflict)
		fresh := []member{{ID: 8, Name: "Alan", Email: field.New(mail(3))}, {ID: 9, Name: "Kurt", Email: field.New(mail(4))}}
		_, err = m.db.NewInsert().Model(&fresh).On("CONFLICT DO NOTHING").Exec(t.Context())
		must(t, err)
		if m.byID(t, 9).Email.Must() != mail(4) {
			t.Error("DO NOTHING without a conflict inserted something else")
		}
	})
}

// Columns of a record are inserted together.
func TestInsertColumns(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		m := members(t, s)
		a := member{Name: "Ada", Email: field.New(mail(0))}
		for what, q := range map[string]*bun.InsertQuery{
			"without the key":   m.db.NewInsert().Model(&a).ExcludeColumn("encrypted_kms_key"),
			"without the index": m.db.NewInsert().Model(&a).ExcludeColumn("email_bidx"),
			"one column":        m.db.NewInsert().Model(&a).Column("name", "email_ciphertext"),
			"Value of an id":    m.db.NewInsert().Model(&a).Value("id", "7"),
			"an expression":     m.db.NewInsert().Model(&a).ColumnExpr("name, email_ciphertext"),
		} {
			_, err := q.Exec(t.Context())
			wantError(t, what, err, errors.ErrUnsupported)
		}
		if n := m.count(t); n != 0 {
			t.Errorf("%d rows", n)
		}
		_, err := m.db.NewInsert().Model(&a).Column("name", "state").Value("state", "?", "x").Exec(t.Context())
		must(t, err)
		_, err = m.db.NewInsert().Model(&member{Email: field.New(mail(1))}).ExcludeColumn("nick").Value("name", "upper(?)", "grace").Exec(t.Context())
		must(t, err)
		var list []member
		must(t, m.db.NewSelect().Model(&list).Order("name").Scan(t.Context()))
		if len(list) != 2 || list[0].State != "x" || !list[0].Email.IsNull() || list[1].Name != "GRACE" || list[1].Email.Must() != mail(1) {
			t.Errorf("%d rows", len(list))
		}
	})
}

type thing struct {
	bun.BaseModel `bun:"table:things"`
	ID            string           `bun:",pk" db:"id"`
	Key           field.Key        `bun:"encrypted_kms_key" db:"encrypted_kms_key"`
	Card          field.Of[string] `bun:"card_ciphertext" db:"card_ciphertext"`
}

// A row whose id the database spells otherwise would never open.
func TestRespelledIDs(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		column, id, kept := "char(36)", "Zoe", "zoe"
		switch s.dialect {
		case field.Postgres:
			column, id, kept = "uuid", "0B9E9F8A-6E9C-4B0E-9D7C-2D7C5F6B1A00", "0b9e9f8a-6e9c-4b0e-9d7c-2d7c5f6b1a00"
		case field.MySQL:
			column, id, kept = "decimal(10)", "007", "7"
		case field.SQLite:
			column, id, kept = "INTEGER", "007", "7"
		}
		things := storeOf[thing](t, s, "things", oneKey(), "id "+column+" PRIMARY KEY")
		for what, rows := range map[string][]thing{
			"one": {{ID: id, Card: field.New(mail(0))}},
			"two": {{ID: strings.ReplaceAll(kept, "7", "8"), Card: field.New(mail(0))}, {ID: id, Card: field.New(mail(1))}},
		} {
			_, err := things.db.NewInsert().Model(&rows).Exec(t.Context())
			wantError(t, what, err, kmsencrypted.ErrLossy)
			if n := things.count(t); n != 0 {
				t.Errorf("%s: %d rows stay", what, n)
			}
		}
		err := things.db.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewInsert().Model(&thing{ID: id, Card: field.New(mail(0))}).Exec(ctx)
			wantError(t, "in a transaction", err, kmsencrypted.ErrLossy)
			_, err = tx.NewInsert().Model(&thing{ID: kept, Card: field.New(mail(2))}).Exec(ctx)
			return err
		})
		must(t, err)
		if things.byID(t, kept).Card.Must() != mail(2) || things.count(t) != 1 {
			t.Error("the record under its own spelling was not inserted")
		}
		// The first key of a row that was not read.
		_, err = s.raw.Exec("UPDATE things SET encrypted_kms_key = NULL, card_ciphertext = NULL")
		must(t, err)
		_, err = things.db.NewUpdate().Model(&thing{ID: id, Card: field.New(mail(3))}).WherePK().Exec(t.Context())
		wantError(t, "a first key", err, kmsencrypted.ErrLossy)
		if !things.byID(t, kept).Card.IsNull() {
			t.Error("a first key under another spelling stays")
		}
	})
}

// Where nothing depends on the id, many records are sealed first.
func TestInsertUnboundID(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		m := storeOf[note](t, s, "notes", oneKey(func(v *kmsencrypted.Version) {
			v.OmitID = true
			v.Context = func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
				return kmsencrypted.Context{"for": "notes"}, nil
			}
		}), "id "+s.autoID, "title varchar(20)")
		list := make([]*note, 5)
		for i := range list {
			list[i] = &note{Title: "x", Body: field.New(mail(i))}
		}
		_, err := m.db.NewInsert().Model(&list).Exec(t.Context())
		must(t, err)
		for i, n := range list {
			if m.byID(t, n.ID).Body.Must() != mail(i) {
				t.Errorf("record %d has the id %d of another", i, n.ID)
			}
		}
	})
}

// A value that does not fit is an error in any session.
func TestNothingIsCut(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		if s.dialect == field.SQLite {
			return // has no limits
		}
		m := members(t, s)
		a := member{Name: "Ada", Email: field.New(mail(0))}
		_, err := m.db.NewInsert().Model(&a).Exec(t.Context())
		must(t, err)
		for _, q := range []func() error{
			func() error {
				_, err := m.db.NewInsert().Model(&member{Name: strings.Repeat("long", 10), Email: field.New(mail(1))}).Exec(t.Context())
				return err
			},
			func() error {
				a.Name = strings.Repeat("long", 10)
				a.Email.Set(mail(2))
				_, err := m.db.NewUpdate().Model(&a).WherePK().Exec(t.Context())
				return err
			},
			func() error {
				_, err := m.db.NewUpdate().Model((*member)(nil)).Set("name = ?", a.Name).Where("id = ?", a.ID).Exec(t.Context())
				return err
			},
		} {
			if err := q(); err == nil || strings.Contains(err.Error(), "longlong") {
				t.Errorf("a name that is too long: %v", err)
			}
		}
		if got := m.byID(t, a.ID); got.Name != "Ada" || got.Email.Must() != mail(0) || m.count(t) != 1 {
			t.Errorf("the row is %q", got.Name)
		}
	})
}

// subscriber has columns of Rails' encrypts alone.
type subscriber struct {
	bun.BaseModel `bun:"table:subscribers"`
	ID            int64             `bun:",pk" db:"id"`
	Email         field.Of[*string] `bun:"email" db:"email" kms:"activerecord,deterministic"`
	Note          field.Of[*string] `bun:"note" db:"note" kms:"activerecord"`
}

// Columns of Rails' encrypts are inserted, updated and found, and not upserted, also where
// a deterministic one is what conflicts.
func TestRailsColumns(t *testing.T) {
	t.Parallel()
	rails, err := activerecord.New(activerecord.Config{PrimaryKeys: activerecord.Passwords("primary"), DeterministicKey: activerecord.Password("deterministic"), Salt: "salt"})
	must(t, err)
	m, err := field.NewModel[subscriber](kmstest.Box(t), field.Config{Table: "subscribers", ActiveRecord: rails})
	must(t, err)
	onServers(t, func(t *testing.T, s server) {
		_, err := s.raw.Exec("CREATE TABLE subscribers (id bigint PRIMARY KEY, email varchar(300) UNIQUE, note text)")
		must(t, err)
		db := bun.NewDB(s.raw, dialectFor(s.dialect))
		must(t, kmsbun.Use(db, m))
		of := func(id int64, n int) *subscriber {
			return &subscriber{ID: id, Email: field.New(new(mail(1))), Note: field.New(new(mail(n)))}
		}
		_, err = db.NewInsert().Model(of(1, 1)).Exec(t.Context())
		must(t, err)
		target := "CONFLICT (email) DO UPDATE"
		if s.dialect == field.MySQL {
			target = "DUPLICATE KEY UPDATE"
		}
		for what, q := range map[string]*bun.InsertQuery{
			"all":       db.NewInsert().Model(of(2, 2)).On(target),
			"a column":  db.NewInsert().Model(of(2, 2)).On(target).Set("note = EXCLUDED.note"),
			"plaintext": db.NewInsert().Model(of(2, 2)).On(target).Set("note = ?", mail(2)),
		} {
			_, err := q.Exec(t.Context())
			wantError(t, what, err, errors.ErrUnsupported)
		}
		if s.dialect != field.MySQL {
			_, err = db.NewInsert().Model(of(2, 2)).On("CONFLICT (email) DO NOTHING").Exec(t.Context())
			must(t, err)
		}
		var found []subscriber
		must(t, db.NewSelect().Model(&found).ApplyQueryBuilder(kmsbun.Matches(m.Lookup("Email", mail(1)))).Scan(t.Context()))
		if len(found) != 1 || found[0].ID != 1 || *found[0].Note.Must() != mail(1) {
			t.Fatalf("found %d rows", len(found))
		}
		found[0].Note.Set(new(mail(3)))
		_, err = db.NewUpdate().Model(&found[0]).WherePK().Exec(t.Context())
		must(t, err)
		again := new(subscriber)
		must(t, db.NewSelect().Model(again).Where("id = 1").Scan(t.Context()))
		if *again.Note.Must() != mail(3) {
			t.Error("the update is lost")
		}
	})
}
