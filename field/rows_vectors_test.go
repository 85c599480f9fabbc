package field_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// The models of model_rows.json.

type vectorUser struct {
	ID         int64                `db:"id"`
	Key        field.Key            `db:"encrypted_kms_key"`
	PhoneKey   field.Key            `db:"encrypted_kms_key_phone" kms:"name=phone"`
	Email      field.Of[*string]    `db:"email_ciphertext" kms:"lockbox"`
	Blank      field.Of[*string]    `db:"blank_ciphertext" kms:"lockbox"`
	Phone      field.Of[*string]    `db:"phone_ciphertext" kms:"lockbox,key=phone"`
	Birthday   field.Of[*time.Time] `db:"birthday_ciphertext" kms:"lockbox,type=date"`
	Visits     field.Of[*int64]     `db:"visits_ciphertext" kms:"lockbox"`
	Status     field.Of[*string]    `db:"status_ciphertext" kms:"lockbox,padding=16"`
	Note       field.Of[*string]    `db:"note_ciphertext" kms:"lockbox,master"`
	SSN        field.Of[*string]    `db:"encrypted_ssn" kms:"attr_encrypted"`
	SSNIV      field.Part           `db:"encrypted_ssn_iv"`
	EmailIndex field.Index          `db:"email_bidx" kms:"of=Email"`
	EmailCI    field.Index          `db:"email_ci_bidx" kms:"of=Email,expression=lower"`
}

type vectorAccount struct {
	ID      int64             `db:"id"`
	Key     field.Key         `db:"encrypted_kms_key"`
	IBAN    field.Of[*string] `db:"iban_ciphertext" kms:"lockbox"`
	Index   field.Index       `db:"iban_bidx" kms:"of=IBAN,slow"`
	IndexV2 field.Index       `db:"iban_bidx_v2" kms:"of=IBAN"`
}

type vectorRow struct {
	Step, Model, Table string
	ID                 int64
	Context            vectors.Value
	Columns            map[string]vectors.Stored
	Values             map[string]vectors.Value
}

// Whole rows as ActiveRecord stored them: keys, columns and indexes together.
func TestModelRowVectors(t *testing.T) {
	var file struct {
		LockboxMasterKey string `json:"lockbox_master_key"`
		IndexKey         string `json:"blind_index_master_key"`
		IndexKeyV2       string `json:"blind_index_master_key_v2"`
		Rows             []vectorRow
	}
	vectors.Load(t, "model_rows.json", &file)
	master, err := lockbox.ParseMasterKey(file.LockboxMasterKey)
	must(t, err)
	indexKey, err := blindindex.ParseMasterKey(file.IndexKey)
	must(t, err)
	indexKeyV2, err := blindindex.ParseMasterKey(file.IndexKeyV2)
	must(t, err)
	ibanV2, err := blindindex.Derive(indexKeyV2, "accounts", "iban_bidx_v2", blindindex.Options{})
	must(t, err)
	ruby := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: ruby, 2: ruby}}.Box()
	must(t, err)
	for _, row := range file.Rows {
		config := field.Config{Table: row.Table, Name: row.Model, LockboxMasterKey: master, IndexKey: indexKey,
			Context: func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) { return row.Context.Context() }}
		if row.Model == "Account" {
			config.Indexes = map[string]*blindindex.Index{"iban_bidx_v2": ibanV2}
			checkVectorRow(t, newModel[vectorAccount](t, box, config), new(vectorAccount), row)
		} else {
			checkVectorRow(t, newModel[vectorUser](t, box, config), new(vectorUser), row)
		}
	}
	vectors.Ran(t, "model_rows.json", len(file.Rows))
}

func checkVectorRow[R any](t *testing.T, m *field.Model[R], r *R, row vectorRow) {
	t.Helper()
	name := fmt.Sprintf("%s, %s %d", row.Step, row.Model, row.ID)
	v := reflect.ValueOf(r).Elem()
	v.FieldByName("ID").SetInt(row.ID)
	byColumn := make(map[string]reflect.Value)
	for i := range v.NumField() {
		byColumn[v.Type().Field(i).Tag.Get("db")] = v.Field(i)
	}
	for column, stored := range row.Columns {
		f, ok := byColumn[column]
		if !ok {
			t.Errorf("%s: no field for %s", name, column)
			continue
		}
		var src any
		if !stored.Null {
			src = string(stored.Bytes)
		}
		must(t, f.Addr().Interface().(interface{ Scan(any) error }).Scan(src))
	}
	err := m.Open(t.Context(), r)
	if row.fails() {
		if !errors.Is(err, kmsencrypted.ErrDecrypt) {
			t.Errorf("%s: %v, want ErrDecrypt", name, err)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	for attribute, want := range row.Values {
		got := plainOf(t, v.FieldByName(vectors.RailsField(attribute)))
		if at, ok := got.(time.Time); ok {
			got = at.Format(time.DateOnly)
		}
		if want.Kind == "nil" && got != nil || want.Kind != "nil" && fmt.Sprint(got) != want.Text {
			t.Errorf("%s: %s = %v, want %v", name, attribute, got, want)
		}
	}
	// Setting every value again computes the same indexes.
	setAll(t, r)
	must(t, m.Seal(t.Context(), r))
	w, err := m.Adapter().Write(r)
	must(t, err)
	for _, a := range w.Set {
		if f := byColumn[a.Column]; f.Type() == reflect.TypeFor[field.Index]() && a.Value != any(string(row.Columns[a.Column].Bytes)) {
			t.Errorf("%s: index %s = %v, Ruby's %s", name, a.Column, a.Value, row.Columns[a.Column].Bytes)
		}
	}
}

// fails reports whether Ruby could not read the row.
func (r vectorRow) fails() bool {
	for _, v := range r.Values {
		if v.Kind == "error" {
			return true
		}
	}
	return false
}
