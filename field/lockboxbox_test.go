package field_test

import (
	"bytes"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

type boxed struct {
	ID    int64             `db:"id"`
	Name  string            `db:"name"`
	Email field.Of[*string] `db:"email_ciphertext" kms:"lockbox,master"`
	Note  field.Of[*string] `db:"note_ciphertext" kms:"lockbox,master,ad=Name"`
	Pair  field.Of[*int64]  `db:"pair_ciphertext" kms:"lockbox,master"`
	Blank field.Of[*string] `db:"blank_ciphertext" kms:"lockbox,master"`
}

// A column with a box of its own has any key, key pair and previous version of Lockbox.
func TestLockboxBoxes(t *testing.T) {
	t.Parallel()
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	newBox := func(key []byte, o lockbox.Options) *lockbox.Box {
		b, err := lockbox.New(key, o)
		must(t, err)
		return b
	}
	encryption, decryption, err := lockbox.GenerateHybridKeys()
	must(t, err)
	hybrid := func(encryption, decryption []byte) *lockbox.Box {
		b, err := lockbox.NewHybrid(encryption, decryption, lockbox.Options{Algorithm: lockbox.Hybrid})
		must(t, err)
		return b
	}
	model := func(email, note, pair *lockbox.Box) *field.Model[boxed] {
		return newModel[boxed](t, rubyOnly(t), field.Config{Table: "boxed", LockboxBoxes: map[string]*lockbox.Box{
			"email_ciphertext": email, "note_ciphertext": note, "pair_ciphertext": pair,
			"blank_ciphertext": newBox(key(4), lockbox.Options{Padding: 16}),
		}})
	}
	old := newBox(key(1), lockbox.Options{Algorithm: lockbox.XSalsa20})
	before := model(old, newBox(key(2), lockbox.Options{}), hybrid(encryption, nil))
	after := model(newBox(key(3), lockbox.Options{Previous: []*lockbox.Box{old}}), newBox(key(2), lockbox.Options{}), hybrid(encryption, decryption))

	r := boxed{ID: 1, Name: "Ada", Email: field.New(new("ada@example.org")), Note: field.New(new("")), Pair: field.New(new(int64(42))), Blank: field.New(new(""))}
	must(t, before.Seal(t.Context(), &r))
	if got := column(t, r.Note); got != "" {
		t.Errorf("an empty text is stored as %v, want as it is", got)
	}
	if got := column(t, r.Blank); got == "" {
		t.Error("an empty text under padding is stored as it is")
	}
	read := func(m *field.Model[boxed]) (*boxed, error) {
		again := &boxed{ID: 1, Name: "Ada"}
		must(t, again.Email.Scan(column(t, r.Email)))
		must(t, again.Note.Scan(column(t, r.Note)))
		must(t, again.Pair.Scan(column(t, r.Pair)))
		must(t, again.Blank.Scan(column(t, r.Blank)))
		return again, m.Open(t.Context(), again)
	}
	if _, err := read(before); err == nil {
		t.Error("a column was opened without its decryption key")
	}
	again, err := read(after)
	must(t, err)
	if *again.Email.Must() != "ada@example.org" || *again.Note.Must() != "" || *again.Pair.Must() != 42 || *again.Blank.Must() != "" {
		t.Errorf("opened %q, %q, %d, %q", *again.Email.Must(), *again.Note.Must(), *again.Pair.Must(), *again.Blank.Must())
	}
	again.Email.Set(again.Email.Must()) // Lockbox.rotate
	again.Note.Set(new("bound"))
	must(t, after.Seal(t.Context(), again))
	sealed := []byte(column(t, again.Email).(string))
	if got, err := newBox(key(3), lockbox.Options{}).OpenText(nil, sealed, nil); err != nil || string(got) != "ada@example.org" {
		t.Errorf("under the new key alone: %q, %v", got, err)
	}
	sealed = []byte(column(t, again.Note).(string))
	if got, err := newBox(key(2), lockbox.Options{}).OpenText(nil, sealed, []byte("Ada")); err != nil || string(got) != "bound" {
		t.Errorf("with associated data: %q, %v", got, err)
	}
}

func TestLockboxBoxesRefused(t *testing.T) {
	t.Parallel()
	good, err := lockbox.New(make([]byte, 32), lockbox.Options{})
	must(t, err)
	type padded struct {
		ID    int64            `db:"id"`
		Email field.Of[string] `db:"email_ciphertext" kms:"lockbox,master,padding=16"`
	}
	type keyed struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext" kms:"lockbox"`
	}
	boxes := map[string]*lockbox.Box{"email_ciphertext": good}
	_, errTag := field.NewModel[padded](rubyOnly(t), field.Config{Table: "boxed", LockboxBoxes: boxes})
	wantError(t, "padding in the tag", errTag, kmsencrypted.ErrConfig)
	_, errKey := field.NewModel[keyed](rubyOnly(t), field.Config{Table: "boxed", LockboxBoxes: boxes})
	wantError(t, "a column under a data key", errKey, kmsencrypted.ErrConfig)
	for name, box := range map[string]*lockbox.Box{"nil": nil, "zero": new(lockbox.Box)} {
		_, err := field.NewModel[boxed](rubyOnly(t), field.Config{Table: "boxed", LockboxBoxes: map[string]*lockbox.Box{
			"email_ciphertext": box, "note_ciphertext": good, "pair_ciphertext": good, "blank_ciphertext": good,
		}})
		wantError(t, "a "+name+" box", err, kmsencrypted.ErrConfig)
	}
}
