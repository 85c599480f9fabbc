package field_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// All mistakes of a model are reported at start-up and at once.
func TestNewModelReportsEveryMistake(t *testing.T) {
	t.Parallel()
	type bad struct {
		ID      int64            `db:"id"`
		Key     field.Key        `db:"encrypted_kms_key"`
		Key2    field.Key        `db:"other_key"`
		Email   field.Of[string] `db:"email"`
		Again   field.Of[string] `db:"email"`
		NoTag   field.Of[string]
		Channel field.Of[chan int] `db:"channel"`
		Unknown field.Of[string]   `db:"unknown" kms:"colour=red"`
		NoKey   field.Of[string]   `db:"no_key" kms:"key=phone"`
		Date    field.Of[string]   `db:"date" kms:"type=date"`
		Padding field.Of[string]   `db:"padding" kms:"padding=0"`
		Plain   string             `db:"plain" kms:"padding=16"`
		hidden  field.Of[string]   `db:"hidden"`
	}
	_ = bad{}.hidden
	_, err := field.NewModel[bad](nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{})
	if !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Fatalf("NewModel: %v, want ErrConfig", err)
	}
	for _, want := range []string{
		"no table in its Config",
		`Key2: a second key named ""`,
		"Again: column email is Email already",
		"NoTag: no column: it needs a db tag",
		"Channel: invalid configuration: a chan int cannot be kept in a column",
		`Unknown: invalid configuration: tag: unknown option "colour"`,
		`NoKey: no field.Key named "phone"`,
		"Date: invalid configuration: type=date for a string",
		"padding=0, want a number",
		"Plain: a kms tag on a string",
		"hidden: not exported",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

// A key column that has the name of another in what is bound could be exchanged with
// it.
func TestNewModelRefusesTwoKeysOfOneName(t *testing.T) {
	t.Parallel()
	type both struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"first_key" kms:"as=old_key"`
		Other field.Key        `db:"second_key" kms:"name=other,as=old_key"`
		A     field.Of[string] `db:"a"`
		B     field.Of[string] `db:"b" kms:"key=other"`
	}
	type renamed struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"first_key"`
		Other field.Key        `db:"second_key" kms:"name=other,as=first_key"`
		A     field.Of[string] `db:"a"`
		B     field.Of[string] `db:"b" kms:"key=other"`
	}
	box := nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()})
	_, bothErr := field.NewModel[both](box, field.Config{Table: "t"})
	_, renamedErr := field.NewModel[renamed](box, field.Config{Table: "t"})
	for name, err := range map[string]error{"old_key": bothErr, "first_key": renamedErr} {
		if !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(err.Error(), "Other: another key is bound as "+name) {
			t.Errorf("NewModel with two keys bound as %s: %v", name, err)
		}
	}
}

func TestNewModelNeedsAnID(t *testing.T) {
	t.Parallel()
	type row struct {
		Key field.Key        `db:"key"`
		A   field.Of[string] `db:"a"`
	}
	constant := func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"a": "b"}, nil
	}
	for name, c := range map[string]struct {
		v    kmsencrypted.Version
		fine bool
	}{
		"binding and context need it": {kmsencrypted.Version{Provider: kmstest.Memory()}, false},
		"binding needs it":            {kmsencrypted.Version{Provider: kmstest.Memory(), Context: constant}, false},
		"context needs it":            {kmsencrypted.Version{Provider: kmstest.Memory(), OmitID: true}, false},
		"nothing needs it":            {kmsencrypted.Version{Provider: kmstest.Memory(), OmitID: true, Context: constant}, true},
	} {
		m, err := field.NewModel[row](nativeBox(t, c.v), field.Config{Table: "t"})
		if (err == nil) != c.fine {
			t.Errorf("%s: NewModel error = %v", name, err)
		}
		if c.fine {
			r := row{A: field.New("x")}
			must(t, m.Seal(t.Context(), &r))
		}
	}
	// An id that is known to the model and not to the record.
	m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "customers"})
	c := customer{Email: field.New("a")}
	wantError(t, "a record without id", m.Seal(t.Context(), &c), kmsencrypted.ErrNoID)
}

func TestCompoundIDAndCustomContext(t *testing.T) {
	t.Parallel()
	type row struct {
		Tenant string           `db:"tenant" kms:"id"`
		Number int              `db:"number" kms:"id"`
		Key    field.Key        `db:"key"`
		A      field.Of[string] `db:"a"`
	}
	var seen []string
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}},
		Observer: func(_ context.Context, e kmsencrypted.Event) { seen = append(seen, e.Context.String()) }}.Box()
	must(t, err)
	m := newModel[row](t, box, field.Config{Table: "rows"})
	r := row{Tenant: "acme", Number: 7, A: field.New("x")}
	must(t, m.Seal(t.Context(), &r))
	custom := newModel[row](t, box, field.Config{Table: "rows", Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"tenant": s.Record.(*row).Tenant, "version": s.Version}, nil
	}})
	r = row{Tenant: "acme", Number: 7, A: field.New("x")}
	must(t, custom.Seal(t.Context(), &r))
	want := []string{`{"model_name":"rows","number":"7","tenant":"acme"}`, `{"tenant":"acme","version":"1"}`}
	if len(seen) != 2 || seen[0] != want[0] || seen[1] != want[1] {
		t.Errorf("contexts %q, want %q", seen, want)
	}
}

// A column keeps opening after it, its table and its Go type were renamed, if
// the tags say so.
func TestNativePinnedNames(t *testing.T) {
	t.Parallel()
	type before struct {
		ID  int64           `db:"id"`
		Key field.Key       `db:"encrypted_kms_key"`
		Age field.Of[int32] `db:"age_ciphertext"`
	}
	type after struct {
		ID    int64           `db:"id"`
		Key   field.Key       `db:"data_key" kms:"as=encrypted_kms_key"`
		Years field.Of[int64] `db:"years_ciphertext" kms:"as=age_ciphertext"`
	}
	box := nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()})
	old := before{ID: 7, Age: field.New[int32](36)}
	must(t, newModel[before](t, box, field.Config{Table: "people"}).Seal(t.Context(), &old))
	for name, c := range map[string]struct {
		config field.Config
		want   error
	}{
		"pinned":   {field.Config{Table: "customers", As: "people"}, nil},
		"unpinned": {field.Config{Table: "customers"}, kmsencrypted.ErrDecrypt},
	} {
		read := after{ID: 7}
		must(t, read.Key.Scan(column(t, old.Key)))
		must(t, read.Years.Scan(column(t, old.Age)))
		err := newModel[after](t, box, c.config).Open(t.Context(), &read)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.want == nil && read.Years.Must() != 36 {
			t.Errorf("%s: %d, want 36", name, read.Years.Must())
		}
	}
}

func FuzzTag(f *testing.F) {
	for _, seed := range append(field.KnownOptions(), "", "type=date,key=phone", "lockbox,padding=16,binary", "as=", "name=a,name=b", ",,", "=", "type=date,") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		o, err := field.ParseTag(tag)
		if err != nil {
			if !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("ParseTag(%q) error = %v, want ErrConfig", tag, err)
			}
			return
		}
		if again, err := field.ParseTag(o.String()); err != nil || again != o {
			t.Errorf("ParseTag(%q) = %v, which reads as %v, %v", tag, o, again, err)
		}
	})
}

func FuzzNativeColumn(f *testing.F) {
	box := nativeBox(f, kmsencrypted.Version{Provider: kmstest.Memory()})
	m := newModel[customer](f, box, field.Config{Table: "customers"})
	c := customer{ID: 7, Email: field.New("ada@example.org")}
	must(f, m.Seal(f.Context(), &c))
	stored := column(f, c.Email).(string)
	for _, seed := range []string{stored, "", "w", "wQ==", stored[:40], stored + "=", "ada@example.org", strings.ToLower(stored)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		read := customer{ID: 7}
		must(t, read.Key.Scan(column(t, c.Key)))
		must(t, read.Email.Scan(text))
		if err := m.Open(t.Context(), &read); err == nil && text != stored {
			t.Errorf("%q opened as if it were what was sealed", text)
		}
	})
}
