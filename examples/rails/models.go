package main

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox/rubyyaml"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// User is the Rails model
//
//	class User < ApplicationRecord
//	  has_kms_key
//	  has_kms_key name: :phone
//	  has_encrypted :email, :token, …, key: :kms_key
//	  has_encrypted :phone, key: :kms_key_phone
//	  has_encrypted :note, associated_data: -> { name }
//	  attr_encrypted :ssn, key: :kms_key
//	  attr_encrypted :pin, key: :kms_key, mode: :per_attribute_iv_and_salt
//	  blind_index :email
//	  blind_index :email_ci, attribute: :email, expression: ->(v) { v.downcase }
//	  blind_index :phone, algorithm: :pbkdf2_sha256
//	  blind_index :phone_last4, attribute: :phone, expression: ->(v) { v[-4..] }, size: 16
//	end
type User struct {
	ID        int64                      `db:"id"`
	Name      *string                    `db:"name"`
	Key       field.Key                  `db:"encrypted_kms_key"`
	PhoneKey  field.Key                  `db:"encrypted_kms_key_phone" kms:"name=phone"`
	Email     field.Of[*string]          `db:"email_ciphertext" kms:"lockbox"`
	Phone     field.Of[*string]          `db:"phone_ciphertext" kms:"lockbox,key=phone"`
	Birthday  field.Of[*time.Time]       `db:"birthday_ciphertext" kms:"lockbox,type=date"`
	SignedAt  field.Of[*time.Time]       `db:"signed_at_ciphertext" kms:"lockbox"`
	OpensAt   field.Of[*time.Time]       `db:"opens_at_ciphertext" kms:"lockbox,type=time"`
	Active    field.Of[*bool]            `db:"active_ciphertext" kms:"lockbox"`
	Visits    field.Of[*int64]           `db:"visits_ciphertext" kms:"lockbox"`
	Latitude  field.Of[*float64]         `db:"latitude_ciphertext" kms:"lockbox"`
	Balance   field.Of[*lockbox.Decimal] `db:"balance_ciphertext" kms:"lockbox"`
	Profile   field.Of[any]              `db:"profile_ciphertext" kms:"lockbox"`            // JSON
	Settings  field.Of[map[string]any]   `db:"settings_ciphertext" kms:"lockbox,type=hash"` // YAML
	Tags      field.Of[[]any]            `db:"tags_ciphertext" kms:"lockbox,type=array"`    // YAML
	Status    field.Of[*string]          `db:"status_ciphertext" kms:"lockbox,padding=16"`
	Token     field.Of[*string]          `db:"token_ciphertext" kms:"lockbox,algorithm=xchacha20"`
	Badge     field.Of[*string]          `db:"badge_ciphertext" kms:"lockbox,algorithm=xsalsa20"`
	Note      field.Of[*string]          `db:"note_ciphertext" kms:"lockbox,master,ad=Name"`
	Empty     field.Of[*string]          `db:"empty_ciphertext" kms:"lockbox"`
	IP        field.Of[*netip.Prefix]    `db:"ip_ciphertext" kms:"lockbox"`
	Photo     field.Of[[]byte]           `db:"photo_ciphertext" kms:"lockbox,binary"`
	SSN       field.Of[*string]          `db:"encrypted_ssn" kms:"attr_encrypted"`
	SSNIV     field.Part                 `db:"encrypted_ssn_iv"`
	PIN       field.Of[*string]          `db:"encrypted_pin" kms:"attr_encrypted,mode=per_attribute_iv_and_salt"`
	PINIV     field.Part                 `db:"encrypted_pin_iv"`
	PINSalt   field.Part                 `db:"encrypted_pin_salt"`
	EmailBidx field.Index                `db:"email_bidx" kms:"of=Email"`
	EmailCI   field.Index                `db:"email_ci_bidx" kms:"of=Email,expression=lower"`
	PhoneBidx field.Index                `db:"phone_bidx" kms:"of=Phone,algorithm=pbkdf2_sha256"`
	Last4     field.Index                `db:"phone_last4_bidx" kms:"of=Phone"` // see newApp
	CreatedAt string                     `db:"created_at"`
	UpdatedAt string                     `db:"updated_at"`
}

// Account is Billing::Account, whose context changed with version 2.
type Account struct {
	ID       int64             `db:"id"`
	UUID     string            `db:"uuid"`
	Tenant   string            `db:"tenant"`
	Key      field.Key         `db:"encrypted_kms_key"`
	Secret   field.Of[*string] `db:"secret_ciphertext" kms:"lockbox"`
	IBAN     field.Of[*string] `db:"iban_ciphertext" kms:"lockbox"`
	IBANBidx field.Index       `db:"iban_bidx" kms:"of=IBAN,slow"`
	IBANV2   field.Index       `db:"iban_bidx_v2" kms:"of=IBAN"` // see newApp
}

// accountContext is the Rails application's
//
//	def kms_encryption_context(version:)
//	  return {model_name: "Billing::Account", model_id: id} if version == 1
//	  {uuid: uuid, tenant: tenant, "purpose" => "account <&>"}
//	end
func accountContext(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
	if s.Version == 1 {
		return kmsencrypted.Context{"model_name": s.Model, "model_id": s.ID[0]}, nil
	}
	a := s.Record.(*Account)
	return kmsencrypted.OrderedContext{
		{Name: "uuid", Value: a.UUID},
		{Name: "tenant", Value: a.Tenant},
		{Name: "purpose", Value: "account <&>", StringName: true},
	}, nil
}

// Person is a table with single-table inheritance: the context names the class
// of the row.
type Person struct {
	ID    int64             `db:"id"`
	Type  *string           `db:"type"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Email field.Of[*string] `db:"email_ciphertext" kms:"lockbox"`
}

func (p *Person) class() string {
	if p.Type == nil {
		return "Person"
	}
	return *p.Type
}

func personContext(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
	return kmsencrypted.Context{"model_name": s.Record.(*Person).class(), "model_id": s.ID[0]}, nil
}

// LegacyNote has rows from before kms_encrypted 1.0: key columns without a
// version, under no context.
type LegacyNote struct {
	ID   int64             `db:"id"`
	Key  field.Key         `db:"encrypted_kms_key"`
	Body field.Of[*string] `db:"body_ciphertext" kms:"lockbox"`
}

// app is the database with its models. Each table has a version of its own that
// is written, as each Rails model has; all can read all versions.
type app struct {
	db    *sqlx.DB
	out   io.Writer
	cells *tabwriter.Writer

	users       *field.Model[User] // writes version 1
	nativeUsers *field.Model[User] // writes version 3
	accounts    *field.Model[Account]
	people      *field.Model[Person]
	notes       *field.Model[LegacyNote]
}

// masterKeys are those of the Rails application.
type masterKeys struct {
	lockbox lockbox.MasterKey
	index   blindindex.MasterKey
	indexV2 blindindex.MasterKey // of the second version of the index on iban
}

// exampleKeys are those of testdata/rails. Real ones come from where the
// application has them: [lockbox.ParseMasterKey], [blindindex.MasterKeyFromEnv].
func exampleKeys() (masterKeys, error) {
	master, err := lockbox.NewMasterKey(lockboxMasterKey)
	index, err1 := blindindex.NewMasterKey(indexMasterKey)
	indexV2, err2 := blindindex.NewMasterKey(bytes.Repeat([]byte{0xb2}, blindindex.KeySize))
	return masterKeys{master, index, indexV2}, errors.Join(err, err1, err2)
}

var (
	lockboxMasterKey = bytes.Repeat([]byte{0x6d}, lockbox.KeySize)
	indexMasterKey   = bytes.Repeat([]byte{0xb1}, blindindex.KeySize)
)

func newApp(db *sqlx.DB, native kmsencrypted.Provider, keys masterKeys, out io.Writer) (a *app, err error) {
	a = &app{db: db, out: out, cells: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	// What a tag cannot say: an expression of one's own, another master key.
	last4, err := blindindex.Derive(keys.index, "users", "phone_last4_bidx", blindindex.Options{Size: 16, Expression: fromFourthLast})
	if err != nil {
		return nil, err
	}
	ibanV2, err := blindindex.Derive(keys.indexV2, "accounts", "iban_bidx_v2", blindindex.Options{})
	if err != nil {
		return nil, err
	}
	users := field.Config{Table: "users", Name: "User", LockboxMasterKey: keys.lockbox, YAML: rubyyaml.Codec{},
		IndexKey: keys.index, Indexes: map[string]*blindindex.Index{"phone_last4_bidx": last4}}
	if a.users, err = model[User](1, native, users); err != nil {
		return nil, err
	}
	if a.nativeUsers, err = model[User](3, native, users); err != nil {
		return nil, err
	}
	if a.accounts, err = model[Account](2, native, field.Config{Table: "accounts", Name: "Billing::Account", Context: accountContext,
		IndexKey: keys.index, Indexes: map[string]*blindindex.Index{"iban_bidx_v2": ibanV2}}); err != nil {
		return nil, err
	}
	if a.people, err = model[Person](2, native, field.Config{Table: "people", Name: "Person", Context: personContext}); err != nil {
		return nil, err
	}
	a.notes, err = model[LegacyNote](1, native, field.Config{Table: "legacy_notes", Name: "LegacyNote"})
	return a, err
}

// model makes the model of a table of which version current is written.
func model[R any](current int, native kmsencrypted.Provider, table field.Config) (*field.Model[R], error) {
	ruby := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}
	box, err := kmsencrypted.Config{
		Current:        current,
		Versions:       map[int]kmsencrypted.Version{1: ruby, 2: ruby, 3: {Provider: native}},
		AllowInsecure:  true, // the test key beside a real one, for this example
		UpgradeContext: true, // legacy_notes
	}.Box()
	if err != nil {
		return nil, err
	}
	return field.NewModel[R](box, table)
}

// fromFourthLast is ->(v) { v[-4..] }, which is nil for less than four characters.
func fromFourthLast(p blindindex.Plaintext) (blindindex.Plaintext, error) {
	if utf8.RuneCountInString(p.Text()) < 4 {
		return blindindex.Plaintext{}, nil
	}
	return blindindex.Last(4)(p)
}
