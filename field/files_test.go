package field_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type document struct {
	ID    int64     `db:"id"`
	Title string    `db:"title"`
	Key   field.Key `db:"encrypted_kms_key"`
}

// No operation replaces the data key of a stored record that may have files.
func TestFilesKeepTheDataKey(t *testing.T) {
	t.Parallel()
	p := kmstest.NewService(kmstest.Memory())
	m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: p.Provider()}), field.Config{Table: "customers", Complete: true, Files: true})
	row := reload(t, sealedCustomer(t, m, 7, "ada@example.org"))
	if err := m.Rekey(t.Context(), &row); !errors.Is(err, kmsencrypted.ErrNeedsFiles) {
		t.Errorf("Rekey = %v, want ErrNeedsFiles", err)
	}
	before := column(t, row.Key)
	all := func() {
		row.Email.Set("new@example.org")
		row.Born.SetNull()
		row.Notes.SetNull()
		row.Phone.Set(nil)
	}
	p.Set(denyDecrypt)
	all()
	if err := m.Seal(t.Context(), &row); !errors.Is(err, kmsencrypted.ErrNeedsDecrypt) {
		t.Errorf("Seal of every field without permission to decrypt = %v, want ErrNeedsDecrypt", err)
	}
	p.Set()
	must(t, m.Seal(t.Context(), &row))
	if column(t, row.Key) != before {
		t.Error("Seal of every field made a new data key")
	}
	// A new record has no files yet.
	p.Set(denyDecrypt)
	fresh := customer{ID: 8, Email: field.New("b")}
	must(t, m.Seal(t.Context(), &fresh))
}

func TestDataKeys(t *testing.T) {
	t.Parallel()
	p := kmstest.NewService(kmstest.Memory())
	m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: p.Provider()}), field.Config{Table: "customers"})
	const keyColumn = "encrypted_kms_key"
	a, b := reload(t, sealedCustomer(t, m, 1, "a")), reload(t, sealedCustomer(t, m, 2, "b"))
	var none, unread customer
	none.ID, unread.ID = 3, 4
	must(t, none.Key.Scan(nil))
	p.Forget()
	keys, err := m.Adapter().DataKeys(t.Context(), keyColumn, &a, &b, &none)
	must(t, err)
	must(t, m.Open(t.Context(), &a))
	if p.Count(kmsencrypted.OpUnwrap) != 2 {
		t.Errorf("%d calls, want 2", p.Count(kmsencrypted.OpUnwrap))
	}
	if keys[0].Equal(keys[1]) || !keys[2].IsZero() {
		t.Error("DataKeys mixes records up")
	}
	keys[0].Wipe()
	again, err := m.Adapter().DataKeys(t.Context(), keyColumn, &a)
	must(t, err)
	if _, err := again[0].Raw(); err != nil {
		t.Errorf("the key in the record is wiped with the one that was returned: %v", err)
	}
	if _, err := m.Adapter().DataKeys(t.Context(), keyColumn, &unread); !errors.Is(err, kmsencrypted.ErrNotLoaded) {
		t.Errorf("DataKeys of a record that was not read = %v, want ErrNotLoaded", err)
	}
	if _, err := m.Adapter().DataKeys(t.Context(), "email_ciphertext", &a); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("DataKeys of a column that is no key = %v, want ErrConfig", err)
	}
	b.Key.Wipe()
	must(t, b.Key.Scan(column(t, a.Key)))
	keys, err = m.Adapter().DataKeys(t.Context(), keyColumn, &a, &b)
	if f, ok := errors.AsType[field.Failures](err); !ok || len(f) != 1 || f[0].Index != 1 || !errors.Is(err, kmsencrypted.ErrDecrypt) || keys[0].IsZero() {
		t.Errorf("DataKeys with a key column of another record = %v, want ErrDecrypt of the second", err)
	}
}

// A record gets a data key before it has anything to seal, also one that is sealed
// as a whole.
func TestAddKey(t *testing.T) {
	t.Parallel()
	for _, seals := range []bool{false, true} {
		m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory(), RecordSeal: seals}), field.Config{Table: "customers"})
		row := customer{ID: 7}
		must(t, row.Key.Scan(nil))
		must(t, m.Adapter().AddKey(t.Context(), "encrypted_kms_key", &row))
		w, err := m.Adapter().Write(&row)
		must(t, err)
		if len(w.Set) != 1 || len(w.Where) != 1 || w.Where[0].Value != nil {
			t.Errorf("Write = %+v, want the key column if it is still NULL", w)
		}
		m.Adapter().Saved(&row)
		read := customer{ID: 7}
		must(t, errors.Join(read.Key.Scan(column(t, row.Key)), read.Email.Scan(nil), read.Born.Scan(nil), read.Notes.Scan(nil), read.Phone.Scan(nil)))
		must(t, m.Open(t.Context(), &read))
		read.Email.Set("a")
		must(t, m.Seal(t.Context(), &read))
		keys, err := m.Adapter().DataKeys(t.Context(), "encrypted_kms_key", &row, &read)
		must(t, err)
		if !keys[0].Equal(keys[1]) {
			t.Error("the first field was sealed under another data key")
		}
		damaged := reload(t, read)
		must(t, damaged.Key.Scan(nil))
		if err := m.Adapter().AddKey(t.Context(), "encrypted_kms_key", &damaged); !errors.Is(err, kmsencrypted.ErrNoDataKey) {
			t.Errorf("AddKey beside a ciphertext = %v, want ErrNoDataKey", err)
		}
	}
}

// A table may have files and no encrypted column.
func TestFilesAlone(t *testing.T) {
	t.Parallel()
	box := nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()})
	m := newModel[document](t, box, field.Config{Table: "documents", Files: true})
	if got := m.Adapter().KeyColumns(); !slices.Equal(got, []string{"encrypted_kms_key"}) {
		t.Errorf("KeyColumns() = %v", got)
	}
	if _, err := field.NewModel[document](box, field.Config{Table: "documents"}); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("NewModel without Files and fields = %v, want ErrConfig", err)
	}
	row := document{ID: 7}
	must(t, row.Key.Scan(nil))
	must(t, m.Adapter().AddKey(t.Context(), "encrypted_kms_key", &row))
	m.Adapter().Saved(&row)
	before, err := m.Adapter().DataKeys(t.Context(), "encrypted_kms_key", &row)
	must(t, err)
	must(t, m.Adapter().RekeyWithFiles(t.Context(), &row))
	after, err := m.Adapter().DataKeys(t.Context(), "encrypted_kms_key", &row)
	must(t, err)
	if before[0].Equal(after[0]) {
		t.Error("the record has the data key that it had")
	}
}

// result is a row of a database.
type result struct {
	names  []string
	values []any
}

func (r result) Columns() ([]string, error) { return r.names, nil }
func (r result) Scan(into ...any) error {
	for i, to := range into {
		switch to := to.(type) {
		case *any:
			*to = r.values[i]
		case **string:
			if text, ok := r.values[i].(string); ok {
				*to = &text
			}
		case **int64:
			n := r.values[i].(int64)
			*to = &n
		case interface{ Scan(any) error }:
			if err := to.Scan(r.values[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestScanRow(t *testing.T) {
	t.Parallel()
	m := newModel[document](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "documents", Files: true})
	row := document{Title: "as it was"}
	must(t, m.Adapter().Scan(result{[]string{"other", "title", "encrypted_kms_key", "id"}, []any{1, nil, "v1:abc", int64(7)}}, &row))
	if row.ID != 7 || row.Title != "as it was" || row.Key.IsNull() {
		t.Errorf("Scan = %+v", row)
	}
	must(t, m.Adapter().Scan(result{[]string{"title"}, []any{"new"}}, &row))
	if row.Title != "new" {
		t.Errorf("Title = %q", row.Title)
	}
}

func TestSetID(t *testing.T) {
	t.Parallel()
	type compound struct {
		Tenant string           `db:"tenant" kms:"id"`
		Number uint8            `db:"number" kms:"id"`
		Key    field.Key        `db:"key"`
		Email  field.Of[string] `db:"email"`
	}
	m := newModel[compound](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "t"})
	var row compound
	must(t, m.Adapter().SetID(&row, []string{"a", "200"}))
	if got := m.Adapter().ID(&row); !slices.Equal(got, []string{"a", "200"}) || row.Number != 200 {
		t.Errorf("ID() = %q after SetID", got)
	}
	for _, id := range [][]string{nil, {"a"}, {"a", "256"}, {"a", "x"}, {"a", "1", "2"}} {
		if err := m.Adapter().SetID(&row, id); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("SetID(%q) = %v, want ErrMalformed", id, err)
		}
	}
}
