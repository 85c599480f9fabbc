package sqlstore_test

import (
	"errors"
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/vectors"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox/rubyyaml"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// railsUser is a table that a Rails application wrote, with two keys, Lockbox
// and attr_encrypted columns and blind indexes.
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
	Visits     field.Of[*int64]           `db:"visits_ciphertext" kms:"lockbox"`
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
	IP         field.Of[[]byte]           `db:"ip_ciphertext" kms:"lockbox"`
	Photo      field.Of[[]byte]           `db:"photo_ciphertext" kms:"lockbox,binary"`
	SSN        field.Of[*string]          `db:"encrypted_ssn" kms:"attr_encrypted"`
	SSNIV      field.Part                 `db:"encrypted_ssn_iv"`
	PIN        field.Of[*string]          `db:"encrypted_pin" kms:"attr_encrypted,mode=per_attribute_iv_and_salt"`
	PINIV      field.Part                 `db:"encrypted_pin_iv"`
	PINSalt    field.Part                 `db:"encrypted_pin_salt"`
	EmailIndex field.Index                `db:"email_bidx" kms:"of=Email"`
	PhoneIndex field.Index                `db:"phone_bidx" kms:"of=Phone,algorithm=pbkdf2_sha256"`
}

// railsEmail knows one of the columns only.
type railsEmail struct {
	ID    int64             `db:"id"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Email field.Of[*string] `db:"email_ciphertext" kms:"lockbox"`
}

// Rows of Rails are rewrapped in Ruby's form, rekeyed to the native one and back;
// every value and every blind index stays what it was.
func TestRailsSQLite(t *testing.T) {
	t.Parallel()
	var manifest vectors.RailsManifest
	vectors.LoadRails(t, "manifest.json", &manifest)
	native, _ := keys(t, t.TempDir())
	boxOf := func(current int) *kmsencrypted.Box {
		ruby := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}
		b, err := kmsencrypted.Config{Current: current, AllowInsecure: true, Versions: map[int]kmsencrypted.Version{
			1: ruby, 2: ruby, 3: ruby, 8: {Provider: native, RecordSeal: true},
		}}.Box()
		must(t, err)
		return b
	}
	master, err := lockbox.ParseMasterKey(manifest.LockboxMasterKey)
	must(t, err)
	indexKey, err := blindindex.ParseMasterKey(manifest.BlindIndexMasterKey)
	must(t, err)
	modelOf := func(b *kmsencrypted.Box) *field.Model[railsUser] {
		m, err := field.NewModel[railsUser](b, field.Config{
			Table: "users", Name: "User", LockboxMasterKey: master, IndexKey: indexKey, YAML: rubyyaml.Codec{},
			Indexes: map[string]*blindindex.Index{},
		})
		must(t, err)
		return m
	}
	db := sqlite.connect(t, "file:"+vectors.RailsDatabase(t, "rails.sqlite3")+"?_pragma=busy_timeout(20000)")

	stranger, err := field.NewModel[railsEmail](boxOf(8), field.Config{Table: "users", Name: "User"})
	must(t, err)
	_, err = rotator(t, sqlite, db, boxOf(8), stranger, kmsencrypted.RotationOptions{Kind: kmsencrypted.KindRekey}).Run(t.Context())
	if !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Fatalf("Run() of a model that lacks columns = %v, want ErrConfig", err)
	}

	before := plaintexts(t, load(t, db, modelOf(boxOf(1))))
	for _, step := range []struct {
		version int
		kind    kmsencrypted.RotationKind
	}{{2, kmsencrypted.KindRewrap}, {8, kmsencrypted.KindRekey}, {3, kmsencrypted.KindRekey}} {
		b := boxOf(step.version)
		m := modelOf(b)
		r := rotator(t, sqlite, db, b, m, kmsencrypted.RotationOptions{Kind: step.kind, BatchSize: 7, Workers: 2})
		if step.version == 8 {
			_, err := rotator(t, sqlite, db, b, m, kmsencrypted.RotationOptions{}).Run(t.Context())
			if !errors.Is(err, kmsencrypted.ErrNeedsRekey) {
				t.Errorf("rewrap to another format = %v, want ErrNeedsRekey", err)
			}
		}
		result, err := r.Run(t.Context())
		must(t, err)
		if result.Written != int64(len(before)) || result.Failed != 0 || !result.Done {
			failures, _ := r.Failures(t.Context(), 3)
			t.Fatalf("%s to %d = %+v, want %d written; %v", step.kind, step.version, result, len(before), failures)
		}
		if got := versions(t, db, "users"); !maps.Equal(got, map[int]int{step.version: len(before)}) {
			t.Errorf("versions after %s = %v", step.kind, got)
		}
		after := plaintexts(t, load(t, db, m))
		for id, want := range before {
			if got := after[id]; !reflect.DeepEqual(got, want) {
				t.Errorf("user %d after %s to %d = %.300v, want %.300v", id, step.kind, step.version, got, want)
			}
		}
	}
	vectors.Ran(t, "manifest.json", len(before))
}

// plaintexts are the values of opened rows, and what their indexes hold.
func plaintexts(t *testing.T, rows []railsUser) map[int64][]any {
	t.Helper()
	all := make(map[int64][]any)
	for _, row := range rows {
		var values []any
		v := reflect.ValueOf(row)
		for i := range v.NumField() {
			if get := v.Field(i).MethodByName("Get"); get.IsValid() {
				out := get.Call(nil)
				if err, _ := out[1].Interface().(error); err != nil {
					t.Fatal(err)
				}
				value := out[0].Interface()
				if v.Type().Field(i).Name == "OpensAt" && !out[0].IsNil() {
					// A time of day has no date: Rails reads it as of 2000, the native form as of year 0.
					value = value.(*time.Time).Format("15:04:05.999999999")
				}
				values = append(values, value)
			}
			if index, ok := v.Field(i).Interface().(field.Index); ok {
				hash, err := index.Value()
				must(t, err)
				values = append(values, hash)
			}
		}
		all[row.ID] = values
	}
	return all
}
