// Package mistakes has a mistake in each line with a want comment.
package mistakes

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
	Income  field.Of[int]       `db:"income_ciphertext"`
}

type Address struct{ Street, City string }

// Account has blind indexes.
type Account struct {
	ID         int64            `db:"id"`
	Key        field.Key        `db:"encrypted_kms_key"`
	Email      field.Of[string] `db:"email_ciphertext"`
	EmailIndex field.Index      `db:"email_bidx" kms:"of=Email"`
}

type phoneBook struct {
	ID         int64            `db:"id"`
	Key        field.Key        `db:"encrypted_kms_key"`
	Line       field.Of[string] `db:"phone_number"`
	PhoneIndex field.Index      `db:"phone_bidx" kms:"of=Line,expression=lower"`
}

type store struct {
	box       *kmsencrypted.Box
	db        *sql.DB
	x         *sqlx.DB
	customers *field.Model[Customer]
}

func models(box *kmsencrypted.Box) error {
	_, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
	if err != nil {
		return err
	}
	if _, err := field.NewModel[Account](box, field.Config{Table: "accounts"}); err != nil { // want `blind index EmailIndex and no key`
		return err
	}
	if _, err := field.NewModel[phoneBook](box, field.Config{Table: "phone_book", Complete: true}); err != nil { // want `blind index PhoneIndex and no key`
		return err
	}
	if _, err := field.NewModel[Account](box, field.Config{Table: "old_accounts", IndexKey: blindindex.MasterKey{}}); err != nil { // want `set Config.IndexKey`
		return err
	}
	_, err = field.NewModel[Account](box, field.Config{}) // want `blind index EmailIndex`
	return err
}
