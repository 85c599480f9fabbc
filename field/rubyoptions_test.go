package field_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// rubyTable is rows that a Rails application wrote, beside what it shows.
type rubyTable struct {
	Rows []struct {
		ID     int64
		Values map[string]struct {
			T string
			V any
		}
		Raw map[string]any
	}
}

func loadRubyTable(t *testing.T, file string) (table rubyTable) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file)
	must(t, err)
	must(t, json.Unmarshal(data, &table))
	return table
}

func rubyOnly(t *testing.T) *kmsencrypted.Box {
	t.Helper()
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: testkey.New(), Format: kmsencrypted.Ruby}}}.Box()
	must(t, err)
	return box
}

// scanRuby reads a row of Ruby's into a record.
func scanRuby(t *testing.T, record any, raw map[string]any) {
	t.Helper()
	v := reflect.ValueOf(record).Elem()
	for i := range v.NumField() {
		value, ok := raw[v.Type().Field(i).Tag.Get("db")]
		if !ok {
			continue
		}
		if id, isID := value.(float64); isID {
			v.Field(i).SetInt(int64(id))
			continue
		}
		if text, _ := value.(string); strings.HasPrefix(text, "b64:") {
			decoded, err := base64.StdEncoding.DecodeString(text[len("b64:"):])
			must(t, err)
			value = decoded
		}
		must(t, v.Field(i).Addr().Interface().(interface{ Scan(any) error }).Scan(value))
	}
}

type rubyIndexed struct {
	ID       int64                      `db:"id"`
	Key      field.Key                  `db:"encrypted_kms_key"`
	D        field.Of[*time.Time]       `db:"d_ciphertext" kms:"lockbox,type=date"`
	Dt       field.Of[*time.Time]       `db:"dt_ciphertext" kms:"lockbox"`
	Tm       field.Of[*time.Time]       `db:"tm_ciphertext" kms:"lockbox,type=time"`
	I        field.Of[*int64]           `db:"i_ciphertext" kms:"lockbox"`
	F        field.Of[*float64]         `db:"f_ciphertext" kms:"lockbox"`
	Dec      field.Of[*lockbox.Decimal] `db:"dec_ciphertext" kms:"lockbox"`
	B        field.Of[*bool]            `db:"b_ciphertext" kms:"lockbox"`
	S        field.Of[*string]          `db:"s_ciphertext" kms:"lockbox"`
	Initials string                     `db:"-"`
	DI       field.Index                `db:"d_bidx" kms:"of=D"`
	DtI      field.Index                `db:"dt_bidx" kms:"of=Dt"`
	TmI      field.Index                `db:"tm_bidx" kms:"of=Tm"`
	II       field.Index                `db:"i_bidx" kms:"of=I"`
	FI       field.Index                `db:"f_bidx" kms:"of=F"`
	DecI     field.Index                `db:"dec_bidx" kms:"of=Dec"`
	BI       field.Index                `db:"b_bidx" kms:"of=B"`
	SI       field.Index                `db:"s_bidx" kms:"of=S"`
	InI      field.Index                `db:"initials_bidx" kms:"of=Initials"`
}

// Indexes of every type are those that Ruby wrote, and look-ups find them by Go's values.
func TestRubyIndexTypes(t *testing.T) {
	t.Parallel()
	key, err := blindindex.NewMasterKey(bytes.Repeat([]byte{0xb1}, 32))
	must(t, err)
	m := newModel[rubyIndexed](t, rubyOnly(t), field.Config{Table: "bxs", Name: "Bx", IndexKey: key})
	compared := 0
	for _, row := range loadRubyTable(t, "date_index.json").Rows {
		r := new(rubyIndexed)
		scanRuby(t, r, row.Raw)
		must(t, m.Open(t.Context(), r))
		must(t, m.Adapter().CheckDerived(t.Context(), r))
		must(t, m.Reindex(t.Context(), r)) // Initials is not filled: its index stays
		w, err := m.Adapter().Write(r)
		must(t, err)
		if len(w.Set) > 0 {
			t.Errorf("row %d: Reindex writes %v", row.ID, w.Set)
		}
		r.Initials = "AL"
		must(t, m.Adapter().CheckDerived(t.Context(), r))
		for name, value := range map[string]any{
			"d_bidx": r.D.Must(), "dt_bidx": r.Dt.Must(), "tm_bidx": r.Tm.Must(), "i_bidx": r.I.Must(), "f_bidx": r.F.Must(),
			"dec_bidx": r.Dec.Must(), "b_bidx": r.B.Must(), "s_bidx": r.S.Must(), "initials_bidx": "AL",
		} {
			l := m.Lookup(name, value)
			must(t, l.Err())
			if want := row.Raw[name]; want == nil && !l.Null || want != nil && column(t, l.Indexes()[0]) != want {
				t.Errorf("row %d: look-up in %s does not search what Ruby has", row.ID, name)
			}
			if matches, err := l.Matches(r); !matches || err != nil {
				t.Errorf("row %d: Matches in %s = %v, %v", row.ID, name, matches, err)
			}
			compared++
		}
	}
	if compared != 18 {
		t.Errorf("%d look-ups compared", compared)
	}
}

// rubyIndexOptions is one text under an index with each option of the gem.
type rubyIndexOptions struct {
	ID      int64             `db:"id"`
	Key     field.Key         `db:"encrypted_kms_key"`
	S       field.Of[*string] `db:"s_ciphertext" kms:"lockbox"`
	SSN     field.Of[*string] `db:"encrypted_ssn" kms:"attr_encrypted"`
	SSNIV   field.Part        `db:"encrypted_ssn_iv"`
	SSNI    field.Index       `db:"ssn_bidx" kms:"of=SSN"`
	Cost    field.Index       `db:"s_cost_bidx" kms:"of=S"`
	Argon2i field.Index       `db:"s_argon2i_bidx" kms:"of=S,algorithm=argon2i"`
	Scrypt  field.Index       `db:"s_scrypt_bidx" kms:"of=S,algorithm=scrypt"`
	Slow    field.Index       `db:"s_pbslow_bidx" kms:"of=S"`
	Hex     field.Index       `db:"s_hex_bidx" kms:"of=S"`
	Other   field.Index       `db:"s_other_bidx" kms:"of=S,key_table=old_bxs,key_attribute=old_bidx"`
	Strip   field.Index       `db:"s_strip_bidx" kms:"of=S"`
	Legacy  field.Index       `db:"encrypted_s_legacy_bidx" kms:"of=S"`
	Raw     field.Index       `db:"s_raw_bidx" kms:"of=S,binary"`
	Named   field.Index       `db:"s_named" kms:"of=S"`
	V3      field.Index       `db:"s_ver_bidx_v3" kms:"of=S"`
}

// Indexes with the options of the gem - cost, algorithm, encoding, legacy, key, version and
// expression - are those that Ruby wrote.
func TestRubyIndexOptions(t *testing.T) {
	t.Parallel()
	key, err := blindindex.NewMasterKey(bytes.Repeat([]byte{0xb1}, 32))
	must(t, err)
	indexes := make(map[string]*blindindex.Index)
	for column, o := range map[string]blindindex.Options{
		"s_cost_bidx":             {Algorithm: blindindex.Argon2id{Time: 4, MemoryLog2: 10}},
		"s_pbslow_bidx":           {Algorithm: blindindex.PBKDF2{Iterations: 200}},
		"s_hex_bidx":              {Encoding: func(h []byte) blindindex.Column { return blindindex.TextColumn(hex.EncodeToString(h)) }},
		"encrypted_s_legacy_bidx": {Legacy: true},
		"s_strip_bidx": {Expression: func(p blindindex.Plaintext) (blindindex.Plaintext, error) {
			stripped, err := blindindex.PlaintextOf(strings.Trim(p.Text(), "\t\n\v\f\r \x00"))
			if err != nil {
				return stripped, err
			}
			return blindindex.Lower(stripped)
		}},
	} {
		indexes[column], err = blindindex.Derive(key, "bxs", column, o)
		must(t, err)
	}
	m := newModel[rubyIndexOptions](t, rubyOnly(t), field.Config{Table: "bxs", Name: "Bx", IndexKey: key, Indexes: indexes})
	compared := 0
	for _, row := range loadRubyTable(t, "date_index.json").Rows {
		r := new(rubyIndexOptions)
		scanRuby(t, r, row.Raw)
		must(t, m.Open(t.Context(), r))
		must(t, m.Adapter().CheckDerived(t.Context(), r))
		empty := rubyIndexOptions{ID: r.ID, S: field.New(r.S.Must()), SSN: field.New(r.SSN.Must())}
		must(t, m.SealNew(t.Context(), &empty))
		got, want := reflect.ValueOf(empty), reflect.ValueOf(*r)
		for i := range got.NumField() {
			if f := got.Type().Field(i); f.Type == reflect.TypeFor[field.Index]() {
				a, b := column(t, got.Field(i).Interface().(driver.Valuer)), column(t, want.Field(i).Interface().(driver.Valuer))
				if b == nil || !reflect.DeepEqual(a, b) {
					t.Errorf("row %d: %s = %v, Ruby has %v", row.ID, f.Name, a, b)
				}
				compared++
			}
		}
	}
	if compared != 24 {
		t.Errorf("%d indexes compared, want 24", compared)
	}
}

// A type without a text of Ruby's is refused when the model is made, and other types have
// the text of their own.
func TestIndexTypesRefused(t *testing.T) {
	t.Parallel()
	key, err := blindindex.NewMasterKey(bytes.Repeat([]byte{0xb1}, 32))
	must(t, err)
	config := field.Config{Table: "things", IndexKey: key}
	_, err = field.NewModel[struct {
		ID    int64                    `db:"id"`
		Key   field.Key                `db:"encrypted_kms_key"`
		JSON  field.Of[map[string]int] `db:"json_ciphertext" kms:"lockbox"`
		Index field.Index              `db:"json_bidx" kms:"of=JSON"`
	}](rubyOnly(t), config)
	_, err2 := field.NewModel[struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Name  field.Of[string] `db:"name_ciphertext" kms:"lockbox"`
		Born  time.Time        `db:"-"`
		Index field.Index      `db:"born_bidx" kms:"of=Born"`
	}](rubyOnly(t), config)
	for _, err := range []error{err, err2} {
		if !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("NewModel() = %v, want ErrConfig", err)
		}
	}
	type big64 struct {
		ID    int64              `db:"id"`
		Key   field.Key          `db:"encrypted_kms_key"`
		N     field.Of[*big.Int] `db:"n_ciphertext" kms:"lockbox"`
		Text  field.Of[string]   `db:"text_ciphertext" kms:"lockbox"`
		Index field.Index        `db:"n_bidx" kms:"of=N,key_attribute=x"`
		Other field.Index        `db:"text_bidx" kms:"of=Text,key_attribute=x"`
	}
	m := newModel[big64](t, rubyOnly(t), config)
	n, _ := new(big.Int).SetString("18446744073709551616", 10)
	r := &big64{ID: 1, N: field.New(n), Text: field.New("18446744073709551616")}
	must(t, m.SealNew(t.Context(), r))
	if column(t, r.Index) != column(t, r.Other) {
		t.Error("the index of a big integer is not that of its digits")
	}
}

type rubyEncoded struct {
	ID      int64             `db:"id"`
	Key     field.Key         `db:"encrypted_kms_key"`
	M0      field.Of[*string] `db:"encrypted_m0" kms:"attr_encrypted,encode=m0,encode_iv=m0"`
	M0IV    field.Part        `db:"encrypted_m0_iv"`
	Raw     field.Of[*string] `db:"encrypted_rawv" kms:"attr_encrypted,binary,encode_iv=raw"`
	RawIV   field.Part        `db:"encrypted_rawv_iv"`
	Allow   field.Of[*string] `db:"encrypted_allow" kms:"attr_encrypted,marshal,allow_empty"`
	AllowIV field.Part        `db:"encrypted_allow_iv"`
	Mar     field.Of[any]     `db:"encrypted_mar" kms:"attr_encrypted,marshal"`
	MarIV   field.Part        `db:"encrypted_mar_iv"`
	Ren     field.Of[*string] `db:"renamed" kms:"attr_encrypted,mode=per_attribute_iv_and_salt"`
	RenIV   field.Part        `db:"renamed_iv"`
	RenSalt field.Part        `db:"renamed_salt"`
}

type rubyAttributes struct {
	ID      int64              `db:"id"`
	Key     field.Key          `db:"encrypted_kms_key"`
	Mar     field.Of[any]      `db:"encrypted_mar" kms:"attr_encrypted,marshal"`
	MarIV   field.Part         `db:"encrypted_mar_iv"`
	V       field.Of[*string]  `db:"secret_pfx_enc" kms:"attr_encrypted"`
	VIV     field.Part         `db:"secret_pfx_enc_iv"`
	Cbc     field.Of[*string]  `db:"encrypted_cbc" kms:"attr_encrypted,algorithm=aes-256-cbc"`
	CbcIV   field.Part         `db:"encrypted_cbc_iv"`
	Int     field.Of[*int64]   `db:"encrypted_int" kms:"attr_encrypted"`
	IntIV   field.Part         `db:"encrypted_int_iv"`
	Flt     field.Of[*float64] `db:"encrypted_flt" kms:"attr_encrypted"`
	FltIV   field.Part         `db:"encrypted_flt_iv"`
	Bool    field.Of[*bool]    `db:"encrypted_bool" kms:"attr_encrypted"`
	BoolIV  field.Part         `db:"encrypted_bool_iv"`
	Date    field.Of[*string]  `db:"encrypted_date" kms:"attr_encrypted"`
	DateIV  field.Part         `db:"encrypted_date_iv"`
	Time    field.Of[*string]  `db:"encrypted_time" kms:"attr_encrypted"`
	TimeIV  field.Part         `db:"encrypted_time_iv"`
	Sym     field.Of[*string]  `db:"encrypted_sym" kms:"attr_encrypted"`
	SymIV   field.Part         `db:"encrypted_sym_iv"`
	Arr     field.Of[*string]  `db:"encrypted_arr" kms:"attr_encrypted"`
	ArrIV   field.Part         `db:"encrypted_arr_iv"`
	Json    field.Of[*string]  `db:"encrypted_json" kms:"attr_encrypted"`
	JsonIV  field.Part         `db:"encrypted_json_iv"`
	Rawv    field.Of[*string]  `db:"encrypted_rawv" kms:"attr_encrypted,binary,encode_iv=raw"`
	RawvIV  field.Part         `db:"encrypted_rawv_iv"`
	M0      field.Of[*string]  `db:"encrypted_m0" kms:"attr_encrypted,encode=m0,encode_iv=m0"`
	M0IV    field.Part         `db:"encrypted_m0_iv"`
	Allow   field.Of[*string]  `db:"encrypted_allow" kms:"attr_encrypted,marshal,allow_empty"`
	AllowIV field.Part         `db:"encrypted_allow_iv"`
	Ren     field.Of[*string]  `db:"renamed" kms:"attr_encrypted,mode=per_attribute_iv_and_salt"`
	RenIV   field.Part         `db:"renamed_iv"`
	RenSalt field.Part         `db:"renamed_salt"`
}

// Every attribute that Ruby wrote with attr_encrypted's options has Ruby's value.
func TestAttrEncryptedAttributes(t *testing.T) {
	t.Parallel()
	m := newModel[rubyAttributes](t, rubyOnly(t), field.Config{Table: "atts", Name: "Att"})
	compared := 0
	for _, row := range loadRubyTable(t, "attr_options.json").Rows {
		r := new(rubyAttributes)
		scanRuby(t, r, row.Raw)
		must(t, m.Open(t.Context(), r))
		for name, want := range row.Values {
			got := plainOf(t, reflect.ValueOf(r).Elem().FieldByName(vectors.RailsField(name)))
			var same bool
			switch text, isText := got.(string); {
			case want.T == "nil":
				same = got == nil
			case want.V == "":
				same = isText && text == ""
			case want.T == "json":
				if isText {
					var again any
					must(t, json.Unmarshal([]byte(text), &again))
					same = reflect.DeepEqual(again, want.V)
					break
				}
				raw, err := json.Marshal(want.V)
				must(t, err)
				same = (vectors.RailsValue{Type: "json", V: raw}).Check(got) == nil
			case name == "flt":
				f, err := strconv.ParseFloat(want.V.(string), 64)
				same = err == nil && got == f
			default:
				same = fmt.Sprint(got) == want.V
			}
			if !same {
				t.Errorf("row %d: %s = %v, want %v", row.ID, name, got, want)
			}
			compared++
		}
	}
	if compared != 30 {
		t.Errorf("%d attributes compared, want 30", compared)
	}
}

// The empty text in a field of any type is stored as it is, like Ruby's, and comes back.
func TestAttrEncryptedMarshalBlank(t *testing.T) {
	t.Parallel()
	m := newModel[rubyAttributes](t, rubyOnly(t), field.Config{Table: "atts", Name: "Att"})
	r := &rubyAttributes{ID: 1, Mar: field.New[any](""), V: field.New(new("v"))}
	must(t, m.SealNew(t.Context(), r))
	if value, iv := column(t, r.Mar), column(t, r.MarIV); value != "" || iv != nil {
		t.Errorf("column of \"\" = %q with iv %v", value, iv)
	}
	read := &rubyAttributes{ID: 1}
	must(t, errors.Join(read.Key.Scan(column(t, r.Key)), read.Mar.Scan(""), read.MarIV.Scan(nil)))
	must(t, m.Open(t.Context(), read))
	if got := read.Mar.Must(); got != "" {
		t.Errorf("opened %#v, want \"\"", got)
	}
}

// The first key of a row that is blank in Ruby's form is written alone: attr_encrypted
// keeps the iv of a value that was emptied.
func TestFirstKeyBlank(t *testing.T) {
	t.Parallel()
	m := newModel[rubyEncoded](t, rubyOnly(t), field.Config{Table: "atts", Name: "Att"})
	for _, kept := range []any{nil, "ZhZQV12mhNqfquca\n"} {
		r := &rubyEncoded{ID: 1}
		must(t, errors.Join(r.Key.Scan(nil), r.M0.Scan(""), r.M0IV.Scan(kept), r.Mar.Scan(nil), r.MarIV.Scan(nil)))
		must(t, m.Adapter().AddKeys(t.Context(), r))
		wantWrite(t, m, r, "a first key", "[encrypted_kms_key]", "[encrypted_kms_key=NULL]")
		if got := column(t, r.M0IV); got != kept {
			t.Errorf("the iv became %v", got)
		}
	}
}

// A row of Rails' encrypts is read, found and rotated away from the key that wrote it.
func TestActiveRecordRow(t *testing.T) {
	t.Parallel()
	e, err := activerecord.New(activerecord.Config{
		PrimaryKeys:      activerecord.Passwords(strings.Repeat("p", 32)),
		DeterministicKey: activerecord.Password(strings.Repeat("d", 32)),
		Salt:             strings.Repeat("s", 32),
		Digest:           activerecord.SHA1,
	})
	must(t, err)
	type patient struct {
		ID    int64             `db:"id"`
		SSN   field.Of[*string] `db:"ssn" kms:"activerecord"`
		Email field.Of[*string] `db:"email" kms:"activerecord,deterministic"`
	}
	m := newModel[patient](t, rubyOnly(t), field.Config{Table: "ares", Name: "Are", ActiveRecord: e})
	r := &patient{ID: 1}
	email := `{"p":"r4fG","h":{"iv":"HYImdJE2J7sASZSq","at":"Gi0+F610xmCRYOd7bUGUBQ=="}}`
	must(t, r.SSN.Scan(`{"p":"+1q+","h":{"iv":"IcMlsWOpScLAxfi3","at":"KDq9KnkxWyLGMZL7P2N0ww=="}}`))
	must(t, r.Email.Scan(email))
	must(t, m.Open(t.Context(), r))
	if *r.SSN.Must() != "123" || *r.Email.Must() != "a@b" {
		t.Errorf("opened %q and %q", *r.SSN.Must(), *r.Email.Must())
	}
	l := m.Lookup("Email", "a@b")
	must(t, l.Err())
	if got := column(t, l.Columns[0]); got != email {
		t.Errorf("Lookup = %v, want what Rails wrote", got)
	}
}

// The encodings of attr_encrypted are read, and written in the same form.
func TestAttrEncryptedEncodings(t *testing.T) {
	t.Parallel()
	m := newModel[rubyEncoded](t, rubyOnly(t), field.Config{Table: "atts", Name: "Att"})
	for _, row := range loadRubyTable(t, "attr_options.json").Rows {
		r := new(rubyEncoded)
		scanRuby(t, r, row.Raw)
		must(t, m.Open(t.Context(), r))
		for name, got := range map[string]*string{"m0": r.M0.Must(), "rawv": r.Raw.Must(), "allow": r.Allow.Must(), "ren": r.Ren.Must()} {
			want := row.Values[name]
			if want.T == "nil" && got != nil || want.T != "nil" && (got == nil || *got != want.V) {
				t.Errorf("row %d: %s is not %v", row.ID, name, want)
			}
		}
		setAll(t, r)
		must(t, m.Seal(t.Context(), r))
		again := &rubyEncoded{ID: r.ID}
		v, w := reflect.ValueOf(r).Elem(), reflect.ValueOf(again).Elem()
		for i := 1; i < v.NumField(); i++ {
			must(t, w.Field(i).Addr().Interface().(interface{ Scan(any) error }).Scan(column(t, v.Field(i).Interface().(driver.Valuer))))
		}
		must(t, m.Open(t.Context(), again))
		if *r.M0.Must() != "" {
			for name, text := range map[string]any{"value": column(t, r.M0), "iv": column(t, r.M0IV)} {
				if strings.Contains(text.(string), "\n") || len(text.(string))%4 != 0 {
					t.Errorf("m0: the %s is %q", name, text)
				}
			}
			if iv := column(t, r.RawIV).([]byte); len(iv) != 12 {
				t.Errorf("the raw iv has %d bytes", len(iv))
			}
			if column(t, r.Allow).(string) == "" {
				t.Error("allow_empty stores the empty value as it is")
			}
		}
	}
	for _, tag := range []string{"encode=u", "encode_iv=base64", "binary,encode=m0", "encode=raw", "allow_empty"} {
		_, err := field.NewDynamicModel(rubyOnly(t), reflect.StructOf([]reflect.StructField{
			{Name: "ID", Type: reflect.TypeFor[int64](), Tag: `db:"id"`},
			{Name: "Key", Type: reflect.TypeFor[field.Key](), Tag: `db:"encrypted_kms_key"`},
			{Name: "Text", Type: reflect.TypeFor[field.Of[string]](), Tag: reflect.StructTag(`db:"text" kms:"attr_encrypted,` + tag + `"`)},
			{Name: "IV", Type: reflect.TypeFor[field.Part](), Tag: `db:"text_iv"`},
		}), field.Config{Table: "texts"})
		if !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("a model tagged %s = %v, want ErrConfig", tag, err)
		}
	}
}

// What Rails wrote in one line is not replaced by lines, unless the tag says so: Rails would
// not read them under encode: "m0".
func TestAttrEncryptedOtherEncoding(t *testing.T) {
	t.Parallel()
	line := map[string]any{"id": 1.0}
	for _, row := range loadRubyTable(t, "attr_options.json").Rows[:1] {
		for _, column := range []string{"encrypted_kms_key", "encrypted_m0", "encrypted_m0_iv", "renamed", "renamed_iv"} {
			line[column] = row.Raw[column]
		}
		line["renamed_salt"] = strings.TrimSuffix(row.Raw["renamed_salt"].(string), "\n")
	}
	for _, c := range []struct {
		tags           [2]string
		sealed, opened string // the options that the errors name
	}{
		{[2]string{"", ""}, "encode=m0", ""},
		{[2]string{"encode=m0", ""}, "encode_iv=m0", ""},
		{[2]string{"encode=m0,encode_iv=m0", ""}, "encode_salt=m0", ""},
		{[2]string{"encode=m0,encode_iv=m0", "encode_salt=m0"}, "", ""},
		{[2]string{"encode=m,encode_iv=m", "encode_salt=m"}, "", ""},
		{[2]string{"encode=m0,encode_iv=m0", "encode=m0"}, "", "encode m"},
	} {
		of := func(name, column, tag string) reflect.StructField {
			return reflect.StructField{Name: name, Type: reflect.TypeFor[field.Of[*string]](), Tag: reflect.StructTag(fmt.Sprintf(`db:"%s" kms:"%s"`, column, strings.TrimSuffix("attr_encrypted,"+tag, ",")))}
		}
		part := func(name, column string) reflect.StructField {
			return reflect.StructField{Name: name, Type: reflect.TypeFor[field.Part](), Tag: reflect.StructTag(`db:"` + column + `"`)}
		}
		row := reflect.New(dynamicRow(of("M0", "encrypted_m0", c.tags[0]), part("IV", "encrypted_m0_iv"),
			of("Ren", "renamed", strings.TrimSuffix("mode=per_attribute_iv_and_salt,"+c.tags[1], ",")), part("RenIV", "renamed_iv"), part("RenSalt", "renamed_salt"))).Interface()
		m, err := field.NewDynamicModel(rubyOnly(t), reflect.TypeOf(row).Elem(), field.Config{Table: "atts", Name: "Att"})
		must(t, err)
		scanRuby(t, row, line)
		err = m.Open(t.Context(), &row)
		if c.opened != "" {
			if !errors.Is(err, kmsencrypted.ErrMalformed) || !strings.Contains(err.Error(), c.opened) {
				t.Errorf("%q: Open() = %v, want ErrMalformed with %s", c.tags, err, c.opened)
			}
			continue
		}
		must(t, err)
		must(t, m.Seal(t.Context(), &row)) // nothing is written
		for op, seal := range map[string]func(context.Context, ...*any) error{"Seal": m.Seal, "Rekey": m.Rekey} {
			setAll(t, row)
			err := seal(t.Context(), &row)
			if c.sealed == "" && err != nil || c.sealed != "" && (!errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(err.Error(), c.sealed)) {
				t.Errorf("%q: %s() = %v, want an error with %q", c.tags, op, err, c.sealed)
			}
		}
	}
}
