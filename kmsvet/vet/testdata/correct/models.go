// Package correct has a line that looks like a mistake and is none in each line with an
// ok comment.
package correct

import (
	"database/sql"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
)

type Customer struct {
	ID      int64               `db:"id"`
	Name    string              `db:"name"`
	Key     field.Key           `db:"encrypted_kms_key"`
	Email   field.Of[string]    `db:"email_ciphertext"`
	Phone   field.Of[*string]   `db:"phone_ciphertext"`
	Born    field.Of[time.Time] `db:"born_ciphertext"`
	Address field.Of[Address]   `db:"address_ciphertext"`
	Notes   field.Of[[]string]  `db:"notes_ciphertext"`
	Active  field.Of[bool]      `db:"active_ciphertext"`
}

type Address struct{ Street, City string } // ok: no encrypted field beside it

type Account struct {
	ID         int64            `db:"id"`
	Key        field.Key        `db:"encrypted_kms_key"`
	Email      field.Of[string] `db:"email_ciphertext"`
	EmailIndex field.Index      `db:"email_bidx" kms:"of=Email"`
}

type store struct {
	box       *kmsencrypted.Box
	db        *sql.DB
	x         *sqlx.DB
	customers *field.Model[Customer]
}

func models(box *kmsencrypted.Box, key blindindex.MasterKey, config field.Config, index *blindindex.Index) error {
	_, err := field.NewModel[Customer](box, field.Config{Table: "customers"}) // ok: no index
	if err != nil {
		return err
	}
	if _, err := field.NewModel[Account](box, field.Config{Table: "accounts", IndexKey: key}); err != nil { // ok
		return err
	}
	if _, err := field.NewModel[Account](box, field.Config{Table: "accounts", Indexes: map[string]*blindindex.Index{"email_bidx": index}}); err != nil { // ok: a key of its own
		return err
	}
	if _, err := field.NewModel[Account](box, config); err != nil { // ok: the configuration comes from elsewhere
		return err
	}
	config.IndexKey = key
	_, err = field.NewModel[Account](box, config) // ok
	return err
}
