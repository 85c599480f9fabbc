package field_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type searchable struct {
	ID         int64             `db:"id"`
	Key        field.Key         `db:"key"`
	Email      field.Of[string]  `db:"email_ciphertext"`
	EmailIndex field.Index       `db:"email_bidx" kms:"of=Email,expression=lower,algorithm=hmac_sha256"`
	Domain     field.Index       `db:"email_domain_bidx" kms:"of=Email,expression=domain,algorithm=hmac_sha256,bits=16"`
	First      field.Of[*string] `db:"first_ciphertext"`
	Last       field.Of[string]  `db:"last_ciphertext"`
	Name       field.Index       `db:"name_bidx" kms:"of=First+Last,algorithm=hmac_sha256"`
}

var indexKey = masterKey("k")

// masterKey is 32 times a character.
func masterKey(c string) blindindex.MasterKey {
	key, err := blindindex.NewMasterKey([]byte(strings.Repeat(c, blindindex.KeySize)))
	if err != nil {
		panic(err)
	}
	return key
}

func searchModel(t *testing.T) *field.Model[searchable] {
	return newModel[searchable](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "users", IndexKey: indexKey})
}

func TestIndexFollowsItsField(t *testing.T) {
	t.Parallel()
	m := searchModel(t)
	r := searchable{ID: 1, Email: field.New("Ada@Example.org"), First: field.New(new("Ada")), Last: field.New("Byron")}
	must(t, m.Seal(t.Context(), &r))
	m.Adapter().Saved(&r)
	direct, err := blindindex.Derive(indexKey, "users", "email_bidx", blindindex.Options{Algorithm: blindindex.HMAC{}, Expression: blindindex.Lower})
	must(t, err)
	want := func(email any) any {
		c, err := direct.Compute(email)
		must(t, err)
		return column(t, c)
	}
	if got := column(t, r.EmailIndex); got != want("ada@example.ORG") {
		t.Errorf("index = %v, want that of the lower-cased address", got)
	}
	r.Email.Set("countess@example.org")
	must(t, m.Seal(t.Context(), &r))
	wantWrite(t, m, &r, "one field", "[email_ciphertext email_bidx email_domain_bidx]", "[key]")
	if got := column(t, r.EmailIndex); got != want("countess@example.org") {
		t.Errorf("index = %v, want that of the new address", got)
	}
	m.Adapter().Saved(&r)
	r.Email.SetNull()
	must(t, m.Seal(t.Context(), &r))
	wantWrite(t, m, &r, "NULL", "[email_ciphertext=NULL email_bidx=NULL email_domain_bidx=NULL]", "[key]")

	// A field of an index over two was set and the other is closed.
	closed := searchable{ID: 1}
	must(t, closed.Key.Scan(column(t, r.Key)))
	must(t, closed.First.Scan(column(t, r.First)))
	closed.Last.Set("Lovelace")
	wantError(t, "an index over a closed field", m.Seal(t.Context(), &closed), kmsencrypted.ErrNotOpened)
	if !closed.Last.IsSet() {
		t.Error("a record that failed was changed")
	}
	must(t, m.Open(t.Context(), &closed))
	must(t, m.Seal(t.Context(), &closed))
}

func TestIndexLookup(t *testing.T) {
	t.Parallel()
	m := searchModel(t)
	r := searchable{ID: 1, Email: field.New("Ada@Example.org"), First: field.New(new("Ada")), Last: field.New("Byron")}
	must(t, m.Seal(t.Context(), &r))
	l := m.Lookup("EmailIndex", "ADA@example.org")
	must(t, l.Err())
	if len(l.Columns) != 1 || column(t, l.Columns[0]) != column(t, r.EmailIndex) {
		t.Errorf("Lookup = %v, want the record's column", l.Columns)
	}
	if ok, err := l.Matches(&r); err != nil || !ok {
		t.Errorf("Matches = %v, %v, want a hit", ok, err)
	}
	other := searchable{ID: 2, Email: field.New("grace@example.org")}
	if ok, err := l.Matches(&other); err != nil || ok {
		t.Errorf("Matches of another value = %v, %v, want a false hit found", ok, err)
	}
	if l := m.Lookup("email_bidx", nil); l.Err() != nil || !l.Null || len(l.Args()) != 0 {
		t.Errorf("Lookup of nil = %+v, want NULL", l.Lookup)
	}
	if err := m.Lookup("Email", "x").Err(); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("a field with two indexes: %v, want ErrConfig", err)
	}
	if err := m.Lookup("Phone", "x").Err(); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("no index: %v, want ErrConfig", err)
	}
	if err := m.Lookup("EmailIndex", "\xff").Err(); !errors.Is(err, blindindex.ErrValue) {
		t.Errorf("invalid UTF-8: %v, want ErrValue", err)
	}
}

// An index that is new is filled for rows that were there before.
func TestReindex(t *testing.T) {
	t.Parallel()
	m := searchModel(t)
	written := searchable{ID: 1, Email: field.New("Ada@Example.org"), First: field.New(new("Ada")), Last: field.New("Byron")}
	must(t, m.Seal(t.Context(), &written))
	old := searchable{ID: 1}
	must(t, errors.Join(old.Key.Scan(column(t, written.Key)), old.Email.Scan(column(t, written.Email)), old.EmailIndex.Scan(column(t, written.EmailIndex)),
		old.Domain.Scan(nil), old.First.Scan(column(t, written.First)), old.Last.Scan(column(t, written.Last)), old.Name.Scan(nil)))
	wantError(t, "a closed record", m.Reindex(t.Context(), &old), kmsencrypted.ErrNotOpened)
	must(t, m.Open(t.Context(), &old))
	must(t, m.Reindex(t.Context(), &old))
	wantWrite(t, m, &old, "two new indexes", "[email_domain_bidx name_bidx]", "[email_ciphertext first_ciphertext last_ciphertext]")
	if column(t, old.Name) != column(t, written.Name) || column(t, old.Domain) != column(t, written.Domain) {
		t.Error("a filled index differs from one computed with its field")
	}
}

func TestIndexFailuresLeaveTheRecordAlone(t *testing.T) {
	t.Parallel()
	type row struct {
		ID int64            `db:"id"`
		K  field.Key        `db:"k"`
		V  field.Of[string] `db:"v"`
		X  field.Index      `db:"x" kms:"of=V"`
	}
	for name, expression := range map[string]blindindex.Expression{
		"panics": func(blindindex.Plaintext) (blindindex.Plaintext, error) { panic("secret value") },
		"fails": func(blindindex.Plaintext) (blindindex.Plaintext, error) {
			return blindindex.Plaintext{}, errors.New("no")
		},
	} {
		x, err := blindindex.Derive(indexKey, "t", "x", blindindex.Options{Algorithm: blindindex.HMAC{}, Expression: expression})
		must(t, err)
		m := newModel[row](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "t", Indexes: map[string]*blindindex.Index{"x": x}})
		r := row{ID: 1, V: field.New("secret value")}
		err = m.Seal(t.Context(), &r)
		if err == nil || strings.Contains(err.Error(), "secret value") || !strings.Contains(err.Error(), "t id=1 column x") {
			t.Errorf("%s: error = %v, want one that names the column and not the value", name, err)
		}
		if !r.V.IsSet() {
			t.Errorf("%s: the record was changed", name)
		}
	}
	m := searchModel(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := searchable{ID: 1, Email: field.New("a@b")}
	wantError(t, "cancelled", m.Seal(ctx, &r), context.Canceled)
}
