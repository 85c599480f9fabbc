//go:build gorm130

package kmsgorm_test

import (
	"errors"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// gorm.G came with gorm v1.30: CI builds this test at the newest versions only.
func TestGenericsLeaveOtherColumnsSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	before := d.columns(c.ID)
	n, err := gorm.G[Customer](d.db).Where("id = ?", c.ID).Update(t.Context(), "name", "x")
	d.must(err)
	if n != 1 {
		t.Errorf("Update of generics changes %d rows, want 1", n)
	}
	if got, want := d.columns(c.ID), "x"+strings.TrimPrefix(before, "Ada"); got != want {
		t.Errorf("row:\n%s\nwant\n%s", got, want)
	}
}

// Generics have no record. Encrypted columns are written where the conditions name
// one, and refused before a statement runs where they do not.
func TestGenericsSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	before := d.columns(c.ID)
	email := func(to string) clause.Assignment {
		return clause.Assignment{Column: clause.Column{Name: "email_ciphertext"}, Value: to}
	}
	named := func() gorm.ChainInterface[Customer] { return gorm.G[Customer](d.db).Where("name = ?", "Ada") }
	for name, call := range map[string]func() (int, error){
		"Update":  func() (int, error) { return named().Update(t.Context(), "email_ciphertext", grace) },
		"Set":     func() (int, error) { return named().Set(email(grace)).Update(t.Context()) },
		"Updates": func() (int, error) { return named().Updates(t.Context(), Customer{Email: field.New(grace)}) },
		"Where": func() (int, error) {
			_, err := gorm.G[Customer](d.db).Where("lower(email_ciphertext) = ?", ada).First(t.Context())
			return 0, err
		},
		"Set of an index": func() (int, error) {
			return gorm.G[Customer](d.db).Where("id = ?", c.ID).Set(clause.Assignment{Column: clause.Column{Name: "email_bidx"}, Value: grace}).Update(t.Context())
		},
		"Create by Set": func() (int, error) { return 0, gorm.G[Customer](d.db).Set(email(grace)).Create(t.Context()) },
	} {
		_, err := call()
		if !errors.Is(err, kmsencrypted.ErrUnsealed) && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s of an encrypted column: %v", name, err)
		}
	}
	if after := d.columns(c.ID); after != before {
		t.Error("the row changed")
	}
	g := func() gorm.ChainInterface[Customer] { return gorm.G[Customer](d.db).Where("id = ?", c.ID) }
	for name, call := range map[string]func(to string) (int, error){
		"Update":  func(to string) (int, error) { return g().Update(t.Context(), "email_ciphertext", to) },
		"Set":     func(to string) (int, error) { return g().Set(email(to)).Update(t.Context()) },
		"Updates": func(to string) (int, error) { return g().Updates(t.Context(), Customer{Email: field.New(to)}) },
	} {
		for _, to := range []string{grace, ada} {
			n, err := call(to)
			if got := d.read(c.ID); err != nil || n != 1 || got.Email.Must() != to || *got.Phone.Must() != phone || got.Name != "Ada" {
				t.Errorf("%s of one record: %d rows, %v", name, n, err)
			}
		}
	}
	n, err := g().Set(clause.Assignment{Column: clause.Column{Name: "name"}, Value: "x"}).Update(t.Context())
	if err != nil || n != 1 {
		t.Errorf("Set: %d rows, %v", n, err)
	}
	if n, err := g().Updates(t.Context(), Customer{Name: "y"}); err != nil || n != 1 {
		t.Errorf("Updates: %d rows, %v", n, err)
	}
	made := Customer{Email: field.New(grace)}
	d.must(gorm.G[Customer](d.db).Create(t.Context(), &made))
	found, err := gorm.G[Customer](d.db).Where("id = ?", made.ID).First(t.Context())
	if err != nil || found.Email.Must() != grace {
		t.Errorf("First: %q, %v", found.Email.Must(), err)
	}
}
