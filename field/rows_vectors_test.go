package field_test

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
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

// vectorRows is the file.
type vectorRows struct {
	LockboxMasterKey string `json:"lockbox_master_key"`
	IndexKey         string `json:"blind_index_master_key"`
	IndexKeyV2       string `json:"blind_index_master_key_v2"`
	Rows             []vectorRow
}

// Whole rows as ActiveRecord stored them: keys, columns and indexes together.
func TestModelRowVectors(t *testing.T) {
	var file vectorRows
	vectors.Load(t, "model_rows.json", &file)
	ran := 0
	for _, row := range file.Rows {
		m, err := file.model(row)
		if err != nil {
			t.Errorf("%s, %s %d: %v", row.Step, row.Model, row.ID, err)
			continue
		}
		checkVectorRow(t, m, reflect.New(m.Adapter().RowType()), row)
		ran++
	}
	vectors.Ran(t, "model_rows.json", ran)
	vectors.Skipped(t, "model_rows.json", len(file.Rows)-ran, "no struct has such columns")
}

// model returns a model of a row: its columns are those of the structs above, and others
// have Ruby's default names and options.
func (f *vectorRows) model(row vectorRow) (*field.Model[any], error) {
	master, err := lockbox.ParseMasterKey(f.LockboxMasterKey)
	indexKey, err1 := blindindex.ParseMasterKey(f.IndexKey)
	indexKeyV2, err2 := blindindex.ParseMasterKey(f.IndexKeyV2)
	if err := errors.Join(err, err1, err2); err != nil {
		return nil, err
	}
	ruby := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}
	box := kmsencrypted.Config{Current: 1, Versions: make(map[int]kmsencrypted.Version)}
	for n := range 10 {
		box.Versions[n] = ruby
	}
	b, err := box.Box()
	if err != nil {
		return nil, err
	}
	config := field.Config{Table: row.Table, Name: row.Model, LockboxMasterKey: master, IndexKey: indexKey,
		Context: func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) { return row.Context.Context() }}
	if _, ok := row.Columns["iban_bidx_v2"]; ok {
		ibanV2, err := blindindex.Derive(indexKeyV2, row.Table, "iban_bidx_v2", blindindex.Options{})
		if err != nil {
			return nil, err
		}
		config.Indexes = map[string]*blindindex.Index{"iban_bidx_v2": ibanV2}
	}
	t, err := row.structType(f.types())
	if err != nil {
		return nil, err
	}
	return field.NewDynamicModel(b, t, config)
}

// types returns the Go type of each attribute that is not a text: one that no row has a
// value of is a text.
func (f *vectorRows) types() map[string]reflect.StructField {
	types := make(map[string]reflect.StructField)
	for _, row := range f.Rows {
		for attribute, v := range row.Values {
			switch v.Kind {
			case "i":
				types[attribute] = reflect.StructField{Type: reflect.TypeFor[field.Of[*int64]]()}
			case "f":
				types[attribute] = reflect.StructField{Type: reflect.TypeFor[field.Of[*float64]]()}
			case "bool":
				types[attribute] = reflect.StructField{Type: reflect.TypeFor[field.Of[*bool]]()}
			case "date":
				types[attribute] = reflect.StructField{Type: reflect.TypeFor[field.Of[*time.Time]](), Tag: ",type=date"}
			}
		}
	}
	return types
}

// structType returns a struct for the columns of a row.
func (r vectorRow) structType(types map[string]reflect.StructField) (reflect.Type, error) {
	known := make(map[string]reflect.StructField)
	for _, t := range []reflect.Type{reflect.TypeFor[vectorUser](), reflect.TypeFor[vectorAccount]()} {
		for f := range t.Fields() {
			known[f.Tag.Get("db")] = f
		}
	}
	fields := []reflect.StructField{known["id"]}
	for _, column := range slices.Sorted(maps.Keys(r.Columns)) {
		f, ok := known[column]
		if !ok {
			if f, ok = r.fieldOf(column, types); !ok {
				return nil, fmt.Errorf("column %s has no name that a Ruby gem gives", column)
			}
		}
		fields = append(fields, reflect.StructField{Name: f.Name, Type: f.Type, Tag: f.Tag})
	}
	return reflect.StructOf(fields), nil
}

// fieldOf returns the field of a column whose name says which gem wrote it.
func (r vectorRow) fieldOf(column string, types map[string]reflect.StructField) (f reflect.StructField, ok bool) {
	add := func(attribute, suffix string, t reflect.Type, kms string) (reflect.StructField, bool) {
		if attribute == "" {
			return f, false
		}
		return reflect.StructField{Name: vectors.RailsField(attribute) + suffix, Type: t, Tag: reflect.StructTag(fmt.Sprintf("db:%q kms:%q", column, kms))}, true
	}
	encrypted := func(attribute, kms string) (reflect.StructField, bool) {
		t, found := types[attribute]
		if !found {
			t.Type = reflect.TypeFor[field.Of[*string]]()
		}
		if _, own := r.Columns["encrypted_kms_key_"+attribute]; own {
			kms += ",key=" + attribute
		}
		return add(attribute, "", t.Type, kms+string(t.Tag))
	}
	if name, ok := strings.CutPrefix(column, "encrypted_kms_key_"); ok {
		return add(name, "Key", reflect.TypeFor[field.Key](), "name="+name)
	}
	if attribute, ok := strings.CutSuffix(column, "_ciphertext"); ok {
		return encrypted(attribute, "lockbox")
	}
	if attribute, ok := strings.CutSuffix(column, "_bidx"); ok {
		of, isLower := strings.CutSuffix(attribute, "_ci")
		kms := "of=" + vectors.RailsField(of)
		if isLower {
			kms += ",expression=lower"
		}
		return add(attribute, "Index", reflect.TypeFor[field.Index](), kms)
	}
	if attribute, ok := strings.CutPrefix(column, "encrypted_"); ok {
		if of, isIV := strings.CutSuffix(attribute, "_iv"); isIV {
			return reflect.StructField{Name: vectors.RailsField(of) + "IV", Type: reflect.TypeFor[field.Part](), Tag: reflect.StructTag(fmt.Sprintf("db:%q", column))}, of != ""
		}
		return encrypted(attribute, "attr_encrypted")
	}
	return f, false
}

func checkVectorRow(t *testing.T, m *field.Model[any], record reflect.Value, row vectorRow) {
	t.Helper()
	name := fmt.Sprintf("%s, %s %d", row.Step, row.Model, row.ID)
	v, r := record.Elem(), record.Interface()
	v.FieldByName("ID").SetInt(row.ID)
	for i := range v.NumField() {
		stored, ok := row.Columns[v.Type().Field(i).Tag.Get("db")]
		if !ok {
			continue
		}
		var src any
		if !stored.Null {
			src = string(stored.Bytes)
		}
		must(t, v.Field(i).Addr().Interface().(interface{ Scan(any) error }).Scan(src))
	}
	err := m.Open(t.Context(), &r)
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
		f := v.FieldByName(vectors.RailsField(attribute))
		if !f.IsValid() {
			t.Errorf("%s: no column has %q", name, attribute)
			continue
		}
		got := plainOf(t, f)
		if at, ok := got.(time.Time); ok {
			got = at.Format(time.DateOnly)
		}
		text := want.Text
		if want.Kind == "bool" {
			text = fmt.Sprint(want.Bool)
		}
		if want.Kind == "nil" && got != nil || want.Kind != "nil" && fmt.Sprint(got) != text {
			t.Errorf("%s: %s = %v, want %v", name, attribute, got, want)
		}
	}
	// Setting every value again computes the same indexes.
	setAll(t, r)
	must(t, m.Seal(t.Context(), &r))
	w, err := m.Adapter().Write(&r)
	must(t, err)
	indexes := m.Adapter().IndexColumns()
	for _, a := range w.Set {
		isIndex := slices.ContainsFunc(indexes, func(x field.IndexColumn) bool { return x.Column == a.Column })
		if isIndex && a.Value != any(string(row.Columns[a.Column].Bytes)) {
			t.Errorf("%s: index %s = %v, Ruby's %s", name, a.Column, a.Value, row.Columns[a.Column].Bytes)
		}
	}
}

// Rows of another application, with names and a key that no struct has, open too. A
// column without a gem's name is an error.
func TestModelRowVectorsOfOtherNames(t *testing.T) {
	var file vectorRows
	vectors.Load(t, "model_rows.json", &file)
	if len(file.Rows) == 0 || len(file.Rows[0].Columns) == 0 {
		t.Skip("the folder has no row")
	}
	ruby := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}
	b, err := kmsencrypted.Config{Current: 4, Versions: map[int]kmsencrypted.Version{4: ruby}}.Box()
	must(t, err)
	type client struct {
		ID     int64             `db:"id"`
		Key    field.Key         `db:"encrypted_kms_key"`
		Street field.Of[*string] `db:"street_ciphertext" kms:"lockbox"`
		Floor  field.Of[*int64]  `db:"floor_ciphertext" kms:"lockbox"`
		Tax    field.Of[*string] `db:"encrypted_tax" kms:"attr_encrypted"`
		TaxIV  field.Part        `db:"encrypted_tax_iv"`
		FaxKey field.Key         `db:"encrypted_kms_key_fax" kms:"name=fax"`
		Fax    field.Of[*string] `db:"fax_ciphertext" kms:"lockbox,key=fax"`
		Index  field.Index       `db:"street_ci_bidx" kms:"of=Street,expression=lower"`
	}
	indexKey, err := blindindex.ParseMasterKey(file.IndexKey)
	must(t, err)
	m := newModel[client](t, b, field.Config{Table: "clients", Name: "Client", IndexKey: indexKey})
	c := &client{ID: 3, Street: field.New(new("Low Road")), Floor: field.New(new(int64(2))), Tax: field.New(new("t")), Fax: field.New(new("f"))}
	must(t, m.SealNew(t.Context(), c))
	row := vectorRow{Step: "other names", Model: "Client", Table: "clients", ID: 3, Columns: make(map[string]vectors.Stored), Values: map[string]vectors.Value{
		"street": {Kind: "s", Text: "Low Road"}, "floor": {Kind: "i", Text: "2"}, "tax": {Kind: "s", Text: "t"}, "fax": {Kind: "s", Text: "f"},
	}}
	row.Context = vectors.Value{Kind: "h", Pairs: [][2]vectors.Value{
		{{Kind: "sym", Text: "model_name"}, {Kind: "s", Text: "Client"}}, {{Kind: "sym", Text: "model_id"}, {Kind: "i", Text: "3"}},
	}}
	v := reflect.ValueOf(c).Elem()
	for i := 1; i < v.NumField(); i++ {
		row.Columns[v.Type().Field(i).Tag.Get("db")] = vectors.Stored{Bytes: []byte(column(t, v.Field(i).Interface().(driver.Valuer)).(string))}
	}
	file.Rows = []vectorRow{row}
	other, err := file.model(row)
	must(t, err)
	checkVectorRow(t, other, reflect.New(other.Adapter().RowType()), row)
	row.Columns["street"] = vectors.Stored{Bytes: []byte("x")}
	if _, err := file.model(row); err == nil {
		t.Error("a column without the name of a gem has a struct")
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
