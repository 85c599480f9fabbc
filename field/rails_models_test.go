package field_test

import (
	"database/sql"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/vectors"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox/rubyyaml"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// The models of the Rails application that wrote testdata/rails, as Go structs.

type railsUser struct {
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

type railsAccount struct {
	ID      int64             `db:"id"`
	UUID    string            `db:"uuid"`
	Tenant  string            `db:"tenant"`
	Key     field.Key         `db:"encrypted_kms_key"`
	Secret  field.Of[*string] `db:"secret_ciphertext" kms:"lockbox"`
	IBAN    field.Of[*string] `db:"iban_ciphertext" kms:"lockbox"`
	Index   field.Index       `db:"iban_bidx" kms:"of=IBAN,slow"`
	IndexV2 field.Index       `db:"iban_bidx_v2" kms:"of=IBAN"`
}

// accountContext is the application's: version 2 names tenant and purpose.
func accountContext(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
	if a := s.Record.(*railsAccount); s.Version == 2 {
		return kmsencrypted.OrderedContext{
			{Name: "uuid", Value: a.UUID}, {Name: "tenant", Value: a.Tenant}, {Name: "purpose", Value: "account <&>", StringName: true},
		}, nil
	}
	return kmsencrypted.Context{"model_name": s.Model, "model_id": s.ID[0]}, nil
}

type railsPerson struct {
	ID    int64             `db:"id"`
	Type  *string           `db:"type"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Email field.Of[*string] `db:"email_ciphertext" kms:"lockbox"`
}

// personContext has the class of the row: single-table inheritance.
func personContext(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
	class := s.Model
	if p := s.Record.(*railsPerson); p.Type != nil {
		class = *p.Type
	}
	return kmsencrypted.Context{"model_name": class, "model_id": s.ID[0]}, nil
}

type railsNote struct {
	ID   int64             `db:"id"`
	Key  field.Key         `db:"encrypted_kms_key"`
	Body field.Of[*string] `db:"body_ciphertext" kms:"lockbox"`
}

// fromFourthLast is Ruby's v[-4..], the application's expression: unlike v.last(4)
// it gives nil for less than four characters.
func fromFourthLast(p blindindex.Plaintext) (blindindex.Plaintext, error) {
	if utf8.RuneCountInString(p.Text()) < 4 {
		return blindindex.Plaintext{}, nil
	}
	return blindindex.Last(4)(p)
}

// rails is everything that the tests need of the application.
type rails struct {
	manifest vectors.RailsManifest
	native   kmsencrypted.Provider
	users    *field.Model[railsUser]
	accounts *field.Model[railsAccount]
	people   *field.Model[railsPerson]
	notes    *field.Model[railsNote]
}

// loadRails makes the models. Version 1 and 2 are the application's, 8 is
// native under a key of its own; current is what is written.
func loadRails(t *testing.T, current int) rails {
	t.Helper()
	var r rails
	vectors.LoadRails(t, "manifest.json", &r.manifest)
	if r.manifest.KeyID != testkey.KeyID {
		t.Fatalf("key id %q", r.manifest.KeyID)
	}
	var err error
	r.native, err = local.Create(t.TempDir() + "/keys.txt")
	must(t, err)
	return r.with(t, current)
}

// with is the same application with another current version.
func (r rails) with(t *testing.T, current int) rails {
	t.Helper()
	ruby := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}
	box, err := kmsencrypted.Config{Current: current, AllowInsecure: true, UpgradeContext: true, Versions: map[int]kmsencrypted.Version{
		1: ruby, 2: ruby, 8: {Provider: r.native, RecordSeal: true},
	}}.Box()
	must(t, err)
	master, err := lockbox.ParseMasterKey(r.manifest.LockboxMasterKey)
	must(t, err)
	indexKey, err := blindindex.ParseMasterKey(r.manifest.BlindIndexMasterKey)
	must(t, err)
	indexKeyV2, err := blindindex.ParseMasterKey(r.manifest.BlindIndexV2Key)
	must(t, err)
	ibanV2, err := blindindex.Derive(indexKeyV2, "accounts", "iban_bidx_v2", blindindex.Options{})
	must(t, err)
	last4, err := blindindex.Derive(indexKey, "users", "phone_last4_bidx", blindindex.Options{Size: 16, Expression: fromFourthLast})
	must(t, err)
	r.users = newModel[railsUser](t, box, field.Config{Table: "users", Name: "User", LockboxMasterKey: master, IndexKey: indexKey, YAML: rubyyaml.Codec{},
		Indexes: map[string]*blindindex.Index{"phone_last4_bidx": last4}})
	r.accounts = newModel[railsAccount](t, box, field.Config{Table: "accounts", Name: "Billing::Account", Context: accountContext, IndexKey: indexKey,
		Indexes: map[string]*blindindex.Index{"iban_bidx_v2": ibanV2}})
	r.people = newModel[railsPerson](t, box, field.Config{Table: "people", Name: "Person", Context: personContext})
	r.notes = newModel[railsNote](t, box, field.Config{Table: "legacy_notes", Name: "LegacyNote"})
	return r
}
