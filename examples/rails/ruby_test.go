package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/attrencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// These are the longer pieces of docs/from-ruby.md.

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// rubyBox is a Box whose only version is Ruby's.
func rubyBox(provider kmsencrypted.Provider) *kmsencrypted.Box {
	box, err := kmsencrypted.Config{
		Current:  1,
		Versions: map[int]kmsencrypted.Version{1: {Provider: provider, Format: kmsencrypted.Ruby}},
	}.Box()
	check(err)
	return box
}

// KmsEncrypted::Box.new.encrypt("token", context: {purpose: "webhook"})
func Example_box() {
	ctx := context.Background()
	box := rubyBox(testkey.New())
	webhook := kmsencrypted.Context{"purpose": "webhook"}
	column, err := box.Encrypt(ctx, []byte("token"), webhook)
	check(err)
	fmt.Println(column)
	secret, err := box.Decrypt(ctx, column, webhook)
	fmt.Printf("%s %v\n", secret, err)
	// Output:
	// v1:insecure+data+A6ZEc5clpXND06ZXlKd2RYSndiM05sSWpvaWQyVmlhRzl2YXlKOQo=
	// token <nil>
}

// has_kms_key version: 2, previous_versions: {1 => {key_id: "…"}}
func Example_versions() {
	ctx := context.Background()
	record := kmsencrypted.Context{"model_name": "User", "model_id": 7}
	before := rubyBox(testkey.New())
	after, err := kmsencrypted.Config{
		Current: 2,
		Versions: map[int]kmsencrypted.Version{
			1: {Provider: testkey.New(), Format: kmsencrypted.Ruby},
			2: {Provider: testkey.New(), Format: kmsencrypted.Ruby},
		},
	}.Box()
	check(err)
	old, err := before.Encrypt(ctx, []byte("old"), record)
	check(err)
	latest, err := after.Encrypt(ctx, []byte("new"), record)
	check(err)

	_, err = after.Decrypt(ctx, old, record)
	fmt.Println(kmsencrypted.ColumnVersion(old), err)
	_, err = before.Decrypt(ctx, latest, record)
	fmt.Println(kmsencrypted.ColumnVersion(latest), errors.Is(err, kmsencrypted.ErrVersionNotActive))
	// Output:
	// 1 <nil>
	// 2 true
}

// letter is a small model of Ruby's form for the examples below.
type letter struct {
	ID   int64            `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key"`
	To   field.Of[string] `db:"to_ciphertext" kms:"lockbox"`
	Text field.Of[string] `db:"text_ciphertext" kms:"lockbox"`
}

func letters(provider kmsencrypted.Provider, complete bool) *field.Model[letter] {
	box, err := kmsencrypted.Config{
		Current: 1,
		// With it nothing is decrypted, and a record that is set as a whole gets a new data key.
		Versions: map[int]kmsencrypted.Version{1: {Provider: provider, Format: kmsencrypted.Ruby, EncryptOnly: provider.Info().KeyID == testkey.EncryptKeyID}},
	}.Box()
	check(err)
	m, err := field.NewModel[letter](box, field.Config{Table: "letters", Name: "Letter", Complete: complete})
	check(err)
	return m
}

// read is a record as a program has it after reading the row of another.
func read(from letter) (l letter) {
	l.ID = from.ID
	for _, c := range []struct {
		column interface{ Scan(any) error }
		value  any
	}{
		{&l.Key, must(from.Key.Value())}, {&l.To, must(from.To.Value())}, {&l.Text, must(from.Text.Value())},
	} {
		check(c.column.Scan(c.value))
	}
	return l
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

// A server that may only encrypt. In Ruby the columns have to be set to nil first.
func Example_encryptOnly() {
	ctx := context.Background()
	m := letters(testkey.New(), true)
	l := letter{ID: 7, To: field.New("ada"), Text: field.New("hello")}
	check(m.Seal(ctx, &l))

	writer := letters(testkey.EncryptOnly(), true)
	stored := read(l)
	stored.Text.Set("a part of the record")
	err := writer.Seal(ctx, &stored)
	fmt.Println(errors.Is(err, kmsencrypted.ErrNeedsDecrypt))

	stored.To.Set("all of the record")
	fmt.Println(writer.Seal(ctx, &stored))
	fmt.Println(writer.Open(ctx, new(read(stored))) != nil)
	// Output:
	// true
	// <nil>
	// true
}

// user.dup.save in Ruby makes a record that cannot be read.
func Example_copy() {
	ctx := context.Background()
	m := letters(testkey.New(), false)
	original := letter{ID: 7, To: field.New("ada"), Text: field.New("hello")}
	check(m.Seal(ctx, &original))

	asInRuby := read(original)
	asInRuby.ID = 8
	err := m.Open(ctx, &asInRuby)
	fmt.Println(errors.Is(err, kmsencrypted.ErrDecrypt))

	copied := original // opened
	copied.ID = 8
	check(m.SealNew(ctx, &copied)) // a data key of its own
	again := read(copied)
	fmt.Println(m.Open(ctx, &again), again.Text.Must())
	// Output:
	// true
	// <nil> hello
}

// Two processes give a row its first data key. In Ruby the second overwrites the
// key column, and what the first wrote is lost.
func Example_firstDataKey() {
	ctx := context.Background()
	m := letters(testkey.New(), false)
	row := letter{ID: 7}
	for _, column := range []interface{ Scan(any) error }{&row.Key, &row.To, &row.Text} {
		check(column.Scan(nil))
	}
	row.Text.Set("mine")
	check(m.Seal(ctx, &row))
	w, err := m.Adapter().Write(&row)
	check(err)
	for _, condition := range w.Where {
		fmt.Println(condition.Column, "must still be", condition.Value)
	}
	// Output: encrypted_kms_key must still be <nil>
}

// A column under Lockbox's master key moves under the record's data key: both are
// declared, rows are read and written, and the old one goes.
func Example_masterKeyToDataKey() {
	type person struct {
		ID       int64             `db:"id"`
		Key      field.Key         `db:"encrypted_kms_key"`
		OldEmail field.Of[*string] `db:"email_ciphertext" kms:"lockbox,master"`
		Email    field.Of[*string] `db:"email_kms_ciphertext" kms:"lockbox,migrating=OldEmail"`
	}
	ctx := context.Background()
	masterKey, err := lockbox.NewMasterKey(lockboxMasterKey)
	check(err)
	m, err := field.NewModel[person](rubyBox(testkey.New()), field.Config{Table: "people", Name: "Person", LockboxMasterKey: masterKey})
	check(err)

	// A row as Rails wrote it: has_encrypted :email, without key:.
	key, err := masterKey.AttributeKey("people", "email_ciphertext")
	check(err)
	box, err := lockbox.New(key, lockbox.Options{})
	check(err)
	stored, err := lockbox.Column{Box: box}.Seal(nil, []byte("ada@example.org"), nil)
	check(err)
	p := person{ID: 7}
	check(p.Key.Scan(nil))
	check(p.Email.Scan(nil))
	check(p.OldEmail.Scan(string(stored)))

	check(m.Open(ctx, &p))
	fmt.Println(*p.Email.Must(), m.Migrated(&p))
	check(m.Seal(ctx, &p))
	w, err := m.Adapter().Write(&p)
	check(err)
	fmt.Println(names(w.Set))
	m.Adapter().Saved(&p)
	fmt.Println(m.Migrated(&p))
	// Output:
	// ada@example.org false
	// email_kms_ciphertext, encrypted_kms_key
	// true
}

// Lockbox.new(key: key, algorithm: "xchacha20", previous_versions: [{key: old}])
func Example_previousVersions() {
	oldKey, key := bytes.Repeat([]byte{1}, lockbox.KeySize), bytes.Repeat([]byte{2}, lockbox.KeySize)
	old, err := lockbox.New(oldKey, lockbox.Options{})
	check(err)
	box, err := lockbox.New(key, lockbox.Options{Algorithm: lockbox.XChaCha20, Previous: []*lockbox.Box{old}})
	check(err)
	sealed, err := old.SealText(nil, []byte("from before"), nil)
	check(err)
	plaintext, err := box.OpenText(nil, sealed, nil)
	fmt.Printf("%s %v\n", plaintext, err)
	// Output: from before <nil>
}

// Lockbox.new(algorithm: "hybrid", encryption_key: …, decryption_key: …)
func Example_hybrid() {
	encryptionKey, decryptionKey, err := lockbox.GenerateHybridKeys()
	check(err)
	writer, err := lockbox.NewHybrid(encryptionKey, nil, lockbox.Options{})
	check(err)
	reader, err := lockbox.NewHybrid(nil, decryptionKey, lockbox.Options{})
	check(err)
	sealed, err := writer.Seal(nil, []byte("for the reader alone"), nil)
	check(err)
	plaintext, err := reader.Open(nil, sealed, nil)
	fmt.Printf("%s %v\n", plaintext, err)
	_, err = writer.Open(nil, sealed, nil)
	fmt.Println(errors.Is(err, kmsencrypted.ErrConfig))
	// Output:
	// for the reader alone <nil>
	// true
}

// attr_encrypted :ssn, key: ENV["SSN_KEY"]: a key that is not the record's.
func Example_attrEncryptedKey() {
	key := bytes.Repeat([]byte{3}, 32)
	ssn, err := attrencrypted.New(key, attrencrypted.Options{})
	check(err)
	columns, err := ssn.Encrypt([]byte("123-45-6789"))
	check(err)
	plaintext, err := ssn.Decrypt(columns)
	fmt.Printf("%s %v\n", plaintext, err)
	fmt.Println(len(columns.IV), columns.Salt == nil)
	// Output:
	// 123-45-6789 <nil>
	// 17 true
}

// blind_index :initials, with attribute :initials, :string: an index of a value
// that has no column.
func Example_virtualAttribute() {
	type person struct {
		ID       int64            `db:"id"`
		Key      field.Key        `db:"encrypted_kms_key"`
		First    field.Of[string] `db:"first_ciphertext" kms:"lockbox"`
		Last     field.Of[string] `db:"last_ciphertext" kms:"lockbox"`
		Initials string           `db:"-"` // set it before each Seal
		Index    field.Index      `db:"initials_bidx" kms:"of=Initials"`
	}
	keys, err := exampleKeys()
	check(err)
	m, err := field.NewModel[person](rubyBox(testkey.New()), field.Config{Table: "people", Name: "Person", IndexKey: keys.index})
	check(err)
	p := person{ID: 7, First: field.New("Ada"), Last: field.New("Lovelace"), Initials: "AL"}
	check(m.Seal(context.Background(), &p))

	direct, err := blindindex.Derive(keys.index, "people", "initials_bidx", blindindex.Options{})
	check(err)
	column, err := direct.Compute("AL")
	check(err)
	fmt.Println(must(p.Index.Value()) == must(column.Value()))
	// Output: true
}

// A table with Rails' lock_version. The column goes up in the transaction of the write,
// and keeps the row locked until then, so Rails and other programs notice the change.
func Example_lockVersion() {
	ctx := context.Background()
	type versioned struct {
		letter
		LockVersion int64 `db:"lock_version"`
	}
	db := must(sqlx.Open("sqlite", ":memory:"))
	defer db.Close()
	db.SetMaxOpenConns(1)
	db.MustExec("CREATE TABLE letters (id integer PRIMARY KEY, encrypted_kms_key text, to_ciphertext text, text_ciphertext text, lock_version integer NOT NULL DEFAULT 0)")
	model := must(field.NewModel[versioned](rubyBox(testkey.New()), field.Config{Table: "letters", Name: "Letter"}))
	check(kmssqlx.Insert(ctx, db, model, &versioned{letter: letter{ID: 1, Text: field.New("first")}}))

	save := func(l *versioned) error {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		result, err := tx.ExecContext(ctx, "UPDATE letters SET lock_version = lock_version + 1 WHERE id = ? AND lock_version = ?", l.ID, l.LockVersion)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, kmsencrypted.ErrConflict) // ActiveRecord::StaleObjectError
		}
		if err := kmssqlx.Update(ctx, tx, model, l); err != nil {
			return err
		}
		return tx.Commit()
	}
	var mine, theirs versioned
	for _, l := range []*versioned{&mine, &theirs} {
		check(kmssqlx.Get(ctx, db, model, l, "SELECT * FROM letters WHERE id = 1"))
	}
	mine.Text.Set("mine")
	theirs.Text.Set("theirs")
	fmt.Println(save(&mine), errors.Is(save(&theirs), kmsencrypted.ErrConflict))
	check(kmssqlx.Get(ctx, db, model, &mine, "SELECT * FROM letters WHERE id = 1"))
	fmt.Println(mine.Text.Must(), mine.LockVersion)
	// Output:
	// <nil> true
	// mine 1
}
