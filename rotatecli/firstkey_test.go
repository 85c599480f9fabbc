package rotatecli_test

import (
	"context"
	"os"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// member is a model of Rails whose keys are at different versions.
type member struct {
	ID       int64             `db:"id"`
	Key      field.Key         `db:"encrypted_kms_key"`
	Email    field.Of[*string] `db:"email_ciphertext" kms:"lockbox"`
	PhoneKey field.Key         `db:"encrypted_kms_key_phone" kms:"name=phone"`
	Phone    field.Of[*string] `db:"phone_ciphertext" kms:"lockbox,key=phone"`
}

// membersProgram is a program beside Rails. Its command seed fills the table: ten rows
// with both keys, at version 1, ten with blank values as Rails stores them, and ten empty.
func membersProgram() {
	ruby := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: ruby, 2: ruby}}.Box()
	check(err)
	modelOf := func(keys map[string]int) *field.Model[member] {
		m, err := field.NewModel[member](box, field.Config{Table: "members", Name: "Member", NoFirstKeys: true, KeyVersions: keys})
		check(err)
		return m
	}
	db := openIn(".")
	if len(os.Args) < 2 || os.Args[1] != "seed" {
		rotatecli.Main(context.Background(), db, modelOf(map[string]int{"phone": 2}))
		return
	}
	_, err = db.Exec(`CREATE TABLE members (id integer PRIMARY KEY, encrypted_kms_key text, email_ciphertext text, encrypted_kms_key_phone text, phone_ciphertext text)`)
	check(err)
	old := modelOf(nil)
	for id := int64(1); id <= 30; id++ {
		row := member{ID: id}
		if id <= 10 {
			row.Email, row.Phone = field.New(new(secretEmail)), field.New(new("+44 20"))
			check(old.SealNew(context.Background(), &row))
			_, err = db.Exec("INSERT INTO members VALUES (?, ?, ?, ?, ?)", id, row.Key, row.Email, row.PhoneKey, row.Phone)
		} else if blank := ""; id <= 20 {
			_, err = db.Exec("INSERT INTO members (id, email_ciphertext, phone_ciphertext) VALUES (?, ?, ?)", id, blank, blank)
		} else {
			_, err = db.Exec("INSERT INTO members (id) VALUES (?)", id)
		}
		check(err)
	}
}
