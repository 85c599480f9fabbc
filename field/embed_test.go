package field_test

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
)

type Contact struct {
	Mail  field.Of[string] `db:"mail"`
	Index field.Index      `db:"mail_bidx" kms:"of=Mail,algorithm=pbkdf2_sha256"`
}

type Base struct {
	ID     int64     `db:"id"`
	Tenant string    `db:"tenant" kms:"context"`
	Key    field.Key `db:"encrypted_kms_key"`
}

// person has columns behind pointers, and those of one struct twice.
type person struct {
	*Base
	Home *Contact `gorm:"embedded"`
	Work Contact  `gorm:"embedded;embeddedPrefix:work_"`
	Self *person
}

func embedding(t *testing.T) *field.Model[person] {
	key, err := blindindex.NewMasterKey(make([]byte, blindindex.KeySize))
	must(t, err)
	return newModel[person](t, nativeBox(t, kmsencrypted.Version{
		Provider: newMemoryKey(),
		Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"tenant": s.Record.(*person).Tenant}, nil
		},
	}), field.Config{Table: "people", IndexKey: key})
}

// Embedded structs are made where their pointers are nil, and have their own columns.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	m := embedding(t)
	sealed := person{Base: &Base{ID: 7, Tenant: "a"}, Work: Contact{Mail: field.New("work")}}
	must(t, m.Seal(t.Context(), &sealed))
	if sealed.Home == nil {
		t.Fatal("Seal leaves an embedded struct nil")
	}
	sealed.Home.Mail.Set("home")
	must(t, m.Seal(t.Context(), &sealed))
	opened := person{Base: &Base{ID: 7, Tenant: "a"}}
	opened.Home = new(Contact)
	for to, from := range map[sql.Scanner]driver.Valuer{
		&opened.Key: &sealed.Key, &opened.Home.Mail: &sealed.Home.Mail, &opened.Work.Mail: &sealed.Work.Mail,
	} {
		v, err := from.Value()
		must(t, err)
		must(t, to.Scan(v))
	}
	must(t, m.Open(t.Context(), &opened))
	if got, want := opened.Home.Mail.Must()+" "+opened.Work.Mail.Must(), "home work"; got != want {
		t.Errorf("opened %q, want %q", got, want)
	}
	for name, want := range map[string]bool{"Home.Mail": true, "Work.Mail": true, "work_mail_bidx": true, "Mail": false} {
		if err := m.Lookup(name, "home").Err(); (err == nil) != want {
			t.Errorf("Lookup(%s): %v", name, err)
		}
	}
	want := []string{"encrypted_kms_key", "mail", "work_mail", "mail_bidx", "work_mail_bidx"}
	if got := m.Adapter().Columns(); !slices.Equal(got, want) {
		t.Errorf("Columns() = %v, want %v", got, want)
	}
}

// A copy of a record has embedded structs of its own.
func TestCopy(t *testing.T) {
	t.Parallel()
	m := embedding(t)
	one := person{Base: &Base{ID: 7, Tenant: "a"}, Work: Contact{Mail: field.New("work")}}
	two := m.Adapter().Copy(&one)
	two.ID, two.Work.Mail = 8, field.New("other")
	if one.ID != 7 || one.Work.Mail.Must() != "work" || two.Home != nil {
		t.Errorf("a change of the copy is one of the record: id %d", one.ID)
	}
}

type hidden struct {
	Key  field.Key        `db:"encrypted_kms_key"`
	Mail field.Of[string] `db:"mail"`
}

func TestEmbeddedMistakes(t *testing.T) {
	t.Parallel()
	type unexported struct {
		ID int64 `db:"id"`
		*hidden
	}
	type twice struct {
		Base
		Home, Work Contact `gorm:"embedded"`
	}
	box := nativeBox(t, kmsencrypted.Version{Provider: newMemoryKey()})
	if _, err := field.NewModel[unexported](box, field.Config{Table: "t"}); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("NewModel of a pointer that nobody can set: %v", err)
	}
	if _, err := field.NewModel[twice](box, field.Config{Table: "t"}); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("NewModel of two columns with one name: %v", err)
	}
}
