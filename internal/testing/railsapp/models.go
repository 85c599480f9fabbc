// Package railsapp is the Go counterpart of the Rails application that wrote
// testdata/rails: models of its tables, and a comparison with the manifest. Only
// tests import it.
package railsapp

import (
	"database/sql"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

// User is a row of users.
type User struct {
	ID         int64                      `db:"id"`
	Name       *string                    `db:"name"`
	Key        field.Key                  `db:"encrypted_kms_key"`
	PhoneKey   field.Key                  `db:"encrypted_kms_key_phone" kms:"name=phone"`
	Email      field.Of[*string]          `db:"email_ciphertext" kms:"lockbox"`
	Phone      field.Of[*string]          `db:"phone_ciphertext" kms:"lockbox,key=phone"`
	Birthday   field.Of[*time.Time]       `db:"birthday_ciphertext" kms:"lockbox,type=date"`
	SignedAt   field.Of[*time.Time]       `db:"signed_at_ciphertext" kms:"lockbox"`
	OpensAt    field.Of[*time.Time]       `db:"opens_at_ciphertext" kms:"lockbox,type=time"`
	Active     field.Of[*bool]            `db:"active_ciphertext" kms:"lockbox"`
	Visits     field.Of[sql.Null[int64]]  `db:"visits_ciphertext" kms:"lockbox"`
	Latitude   field.Of[*float64]         `db:"latitude_ciphertext" kms:"lockbox"`
	Balance    field.Of[*lockbox.Decimal] `db:"balance_ciphertext" kms:"lockbox"`
	Profile    field.Of[any]              `db:"profile_ciphertext" kms:"lockbox"`
	Settings   field.Of[map[string]any]   `db:"settings_ciphertext" kms:"lockbox,type=hash"`
	Tags       field.Of[[]any]            `db:"tags_ciphertext" kms:"lockbox,type=array"`
	Status     field.Of[*string]          `db:"status_ciphertext" kms:"lockbox,padding=16"`
	Token      field.Of[*string]          `db:"token_ciphertext" kms:"lockbox,algorithm=xchacha20"`
	Badge      field.Of[*string]          `db:"badge_ciphertext" kms:"lockbox,algorithm=xsalsa20"`
	Note       field.Of[*string]          `db:"note_ciphertext" kms:"lockbox,master,ad=Name"`
	Empty      field.Of[*string]          `db:"empty_ciphertext" kms:"lockbox"`
	IP         field.Of[*netip.Prefix]    `db:"ip_ciphertext" kms:"lockbox"`
	Photo      field.Of[[]byte]           `db:"photo_ciphertext" kms:"lockbox,binary"`
	SSN        field.Of[*string]          `db:"encrypted_ssn" kms:"attr_encrypted"`
	SSNIV      field.Part                 `db:"encrypted_ssn_iv"`
	PIN        field.Of[*string]          `db:"encrypted_pin" kms:"attr_encrypted,mode=per_attribute_iv_and_salt"`
	PINIV      field.Part                 `db:"encrypted_pin_iv"`
	PINSalt    field.Part                 `db:"encrypted_pin_salt"`
	EmailIndex field.Index                `db:"email_bidx" kms:"of=Email"`
	EmailCI    field.Index                `db:"email_ci_bidx" kms:"of=Email,expression=lower"`
	PhoneIndex field.Index                `db:"phone_bidx" kms:"of=Phone,algorithm=pbkdf2_sha256"`
	PhoneLast4 field.Index                `db:"phone_last4_bidx" kms:"of=Phone"`
}

// Account is a row of accounts.
type Account struct {
	ID      int64             `db:"id"`
	UUID    string            `db:"uuid"`
	Tenant  string            `db:"tenant"`
	Key     field.Key         `db:"encrypted_kms_key"`
	Secret  field.Of[*string] `db:"secret_ciphertext" kms:"lockbox"`
	IBAN    field.Of[*string] `db:"iban_ciphertext" kms:"lockbox"`
	Index   field.Index       `db:"iban_bidx" kms:"of=IBAN,slow"`
	IndexV2 field.Index       `db:"iban_bidx_v2" kms:"of=IBAN"`
}

// accountContext is the context of the application: version 2 names tenant and
// purpose.
func accountContext(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
	if a := s.Record.(*Account); s.Version == 2 {
		return kmsencrypted.OrderedContext{
			{Name: "uuid", Value: a.UUID}, {Name: "tenant", Value: a.Tenant}, {Name: "purpose", Value: "account <&>", StringName: true},
		}, nil
	}
	return kmsencrypted.Context{"model_name": s.Model, "model_id": s.ID[0]}, nil
}

// Person is a row of people.
type Person struct {
	ID    int64             `db:"id"`
	Type  *string           `db:"type"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Email field.Of[*string] `db:"email_ciphertext" kms:"lockbox"`
}

// personContext uses the class of the row: single-table inheritance.
func personContext(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
	class := s.Model
	if p := s.Record.(*Person); p.Type != nil {
		class = *p.Type
	}
	return kmsencrypted.Context{"model_name": class, "model_id": s.ID[0]}, nil
}

// Note is a row of legacy_notes.
type Note struct {
	ID   int64             `db:"id"`
	Key  field.Key         `db:"encrypted_kms_key"`
	Body field.Of[*string] `db:"body_ciphertext" kms:"lockbox"`
}

// fromFourthLast is Ruby's v[-4..], which the application uses: unlike v.last(4) it
// returns nil for less than four characters.
func fromFourthLast(p blindindex.Plaintext) (blindindex.Plaintext, error) {
	if utf8.RuneCountInString(p.Text()) < 4 {
		return blindindex.Plaintext{}, nil
	}
	return blindindex.Last(4)(p)
}
