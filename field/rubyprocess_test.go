package field_test

import (
	"bytes"
	"encoding/json"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/attrencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/rubyprocess"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox/rubyyaml"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// rubySample has a column of every type, algorithm and mode that Ruby's gems of
// Debian know. testdata/rows.rb has the same as a model of ActiveRecord.
type rubySample struct {
	ID       int64                      `db:"id"`
	Name     string                     `db:"name"`
	Key      field.Key                  `db:"encrypted_kms_key"`
	Plain    field.Of[*string]          `db:"plain_ciphertext" kms:"lockbox"`
	Empty    field.Of[*string]          `db:"empty_ciphertext" kms:"lockbox"`
	Decimal  field.Of[*lockbox.Decimal] `db:"decimal_ciphertext" kms:"lockbox"`
	Text     field.Of[*string]          `db:"text_ciphertext" kms:"lockbox"`
	Flag     field.Of[*bool]            `db:"flag_ciphertext" kms:"lockbox"`
	Day      field.Of[*time.Time]       `db:"day_ciphertext" kms:"lockbox,type=date"`
	Moment   field.Of[*time.Time]       `db:"moment_ciphertext" kms:"lockbox"`
	Clock    field.Of[*time.Time]       `db:"clock_ciphertext" kms:"lockbox,type=time"`
	Number   field.Of[*int64]           `db:"number_ciphertext" kms:"lockbox"`
	Ratio    field.Of[*float64]         `db:"ratio_ciphertext" kms:"lockbox"`
	JSON     field.Of[any]              `db:"json_ciphertext" kms:"lockbox"`
	Settings field.Of[lockbox.Hash]     `db:"settings_ciphertext" kms:"lockbox,type=hash"`
	Tags     field.Of[[]any]            `db:"tags_ciphertext" kms:"lockbox,type=array"`
	Photo    field.Of[[]byte]           `db:"photo_ciphertext" kms:"lockbox,binary"`
	Padded   field.Of[*string]          `db:"padded_ciphertext" kms:"lockbox,padding=16"`
	ChaCha   field.Of[*string]          `db:"chacha_ciphertext" kms:"lockbox,algorithm=xchacha20"`
	Salsa    field.Of[*string]          `db:"salsa_ciphertext" kms:"lockbox,algorithm=xsalsa20"`
	Note     field.Of[*string]          `db:"note_ciphertext" kms:"lockbox,master,ad=Name"`
	SSN      field.Of[*string]          `db:"encrypted_ssn" kms:"attr_encrypted"`
	SSNIV    field.Part                 `db:"encrypted_ssn_iv"`
	PIN      field.Of[*string]          `db:"encrypted_pin" kms:"attr_encrypted,mode=per_attribute_iv_and_salt"`
	PINIV    field.Part                 `db:"encrypted_pin_iv"`
	PINSalt  field.Part                 `db:"encrypted_pin_salt"`
	Old      field.Of[*string]          `db:"encrypted_old" kms:"attr_encrypted,mode=insecure_single_iv_and_salt,algorithm=aes-256-cbc"`
	CBC      field.Of[*string]          `db:"encrypted_cbc" kms:"attr_encrypted,algorithm=aes-256-cbc"`
	CBCIV    field.Part                 `db:"encrypted_cbc_iv"`
	Prefs    field.Of[any]              `db:"encrypted_prefs" kms:"attr_encrypted,marshal"`
	PrefsIV  field.Part                 `db:"encrypted_prefs_iv"`
}

// rubySamples are records with what Ruby shows of their values.
func rubySamples() (rows []rubySample, shown []map[string]string) {
	doubtful := []any{"yes", "~", "12", "012", "1:20", "- x", "a: b", "", "it's", "é", "two\nlines", "<<", "2020-01-01", int64(1), nil, true, 1.5, lockbox.Symbol("sym"),
		":a", "::", "---", "--- x", "...", "null", "Null", "True", "n", "1e3", "0x1f", "0o7", "1_000", "+1", ".inf", ".NaN", "=", "-", "#", "a #b", "x  ", " y", " ", "\n", "a\n\n", "a\r\nb", "\r", "\t",
		"!x", "&a", "*a", "%x", "@x", "`", "|", "> x", "?", "{}", "[]", ",", "2001-12-14t21:59:43.10-05:00", "a\x00b", "\u2028\u0085\u00a0", "\ufeffx", "x\u200b", "é😀", strings.Repeat("long words ", 40),
		int64(math.MinInt64), int64(math.MaxInt64), 1e20, 5e-324, math.MaxFloat64, 123456789012345680.0, math.Inf(-1), []any{[]any{}, []any{lockbox.Hash{}}}, lockbox.Hash{{Key: "", Value: ""}, {Key: ":k", Value: ":v"}, {Key: "y", Value: "no"}}}
	rows = []rubySample{{
		ID: 1, Name: "Ada",
		Plain: field.New(new("Zürich & <b> \u2028")), Empty: field.New(new("")), Decimal: field.New(new(lockbox.Decimal("-1234.50"))),
		Text: field.New(new("text")), Flag: field.New(new(true)), Day: field.New(new(time.Date(2020, 2, 29, 23, 0, 0, 0, time.UTC))),
		Moment: field.New(new(time.Date(2020, 1, 2, 3, 4, 5, 123456789, time.FixedZone("", 9*3600)))),
		Clock:  field.New(new(time.Date(2020, 1, 2, 3, 4, 5, 123456000, time.UTC))), Number: field.New(new(int64(math.MinInt64))), Ratio: field.New(new(-0.1)),
		JSON:     field.New[any](map[string]any{"a": []any{1, 2.5, nil, true, "<é>"}}),
		Settings: field.New(lockbox.Hash{{Key: "s", Value: lockbox.Hash{{Key: lockbox.Symbol("y"), Value: []any{}}}}, {Key: lockbox.Symbol("a"), Value: "no"}}),
		Tags:     field.New(doubtful), Photo: field.New([]byte{0, 0xff, '\n'}), Padded: field.New(new("padded")), ChaCha: field.New(new("chacha")), Salsa: field.New(new("salsa")),
		Note: field.New(new("bound to the name")), SSN: field.New(new("123-45-6789 and more than one line of base64 holds, as it is said")), PIN: field.New(new("1815")), Old: field.New(new("old")), CBC: field.New(new("sixteen bytes !!")),
		Prefs: field.New[any](attrencrypted.Hash{{Key: "k", Value: attrencrypted.Symbol("v")}, {Key: int64(-300), Value: []any{1.5, true, nil, []byte{0xff}, int64(1) << 40}}}),
	}, {ID: 2, Name: "", Padded: field.New(new("")), Number: field.New(new(int64(0))), Ratio: field.New(new(math.Inf(1))), Flag: field.New(new(false)), SSN: field.New(new("")),
		Day: field.New(new(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC))), Note: field.New(new("bound to nothing"))}}
	shown = []map[string]string{{
		"plain": `"Zürich & <b> \u2028"`, "empty": `""`, "decimal": `"-1234.5"`, "text": `"text"`, "flag": "true", "day": "2020-02-29",
		"moment": "2020-01-01 18:04:05.123456", "clock": "2000-01-01 03:04:05.123456", "number": "-9223372036854775808", "ratio": "bfb999999999999a",
		"json": `{"a"=>[1, 2.5, nil, true, "<é>"]}`, "settings": `{"s"=>{:y=>[]}, :a=>"no"}`,
		"tags": `["yes", "~", "12", "012", "1:20", "- x", "a: b", "", "it's", "é", "two\nlines", "<<", "2020-01-01", 1, nil, true, 1.5, :sym, ` +
			"\":a\", \"::\", \"---\", \"--- x\", \"...\", \"null\", \"Null\", \"True\", \"n\", \"1e3\", \"0x1f\", \"0o7\", \"1_000\", \"+1\", \".inf\", \".NaN\", \"=\", \"-\", \"#\", \"a #b\", \"x  \", \" y\", \" \", \"\\n\", \"a\\n\\n\", \"a\\r\\nb\", \"\\r\", \"\\t\", " +
			"\"!x\", \"&a\", \"*a\", \"%x\", \"@x\", \"`\", \"|\", \"> x\", \"?\", \"{}\", \"[]\", \",\", \"2001-12-14t21:59:43.10-05:00\", \"a\\u0000b\", \"\\u2028\u0085\u00a0\", \"\ufeffx\", \"x\u200b\", \"é😀\", " +
			`"` + strings.Repeat("long words ", 40) + `"` +
			`, -9223372036854775808, 9223372036854775807, 1.0e+20, 5.0e-324, 1.7976931348623157e+308, 1.2345678901234568e+17, -Infinity, [[], [{}]], {""=>"", ":k"=>":v", "y"=>"no"}]`,
		"photo": "binary 00ff0a", "padded": `"padded"`, "chacha": `"chacha"`, "salsa": `"salsa"`, "note": `"bound to the name"`,
		"ssn": `"123-45-6789 and more than one line of base64 holds, as it is said"`, "pin": `"1815"`, "old": `"old"`, "cbc": `"sixteen bytes !!"`,
		"prefs": `{"k"=>:v, -300=>[1.5, true, nil, "\xFF", 1099511627776]}`,
	}, {"padded": `""`, "number": "0", "ratio": "7ff0000000000000", "flag": "false", "ssn": `""`, "day": "0001-01-01", "note": `"bound to nothing"`, "settings": "{}", "tags": "[]"}}
	for name := range shown[0] {
		if _, ok := shown[1][name]; !ok {
			shown[1][name] = "nil"
		}
	}
	return rows, shown
}

// A Ruby process reads what is written here, and what it writes is read back.
func TestRubyProcess(t *testing.T) {
	t.Parallel()
	const masterKey = "5d1c8f2b7a9e40663b0f4c2d8e7a1b9c5d1c8f2b7a9e40663b0f4c2d8e7a1b9c"
	master, err := lockbox.ParseMasterKey(masterKey)
	must(t, err)
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: testkey.New(), Format: kmsencrypted.Ruby}}}.Box()
	must(t, err)
	m := newModel[rubySample](t, box, field.Config{Table: "samples", Name: "Sample", LockboxMasterKey: master, YAML: rubyyaml.Codec{}})

	database := filepath.Join(t.TempDir(), "rows.sqlite3")
	db, err := sqlx.Open("sqlite", database)
	must(t, err)
	defer db.Close()
	rows, shown := rubySamples()
	must(t, m.SealNew(t.Context(), field.Pointers(rows)...))
	insertSamples(t, db, rows)

	out := rubyprocess.Run(t, []string{"active_record", "lockbox", "attr_encrypted", "rbnacl", "sqlite3"}, nil, "testdata/rows.rb", database, masterKey)
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if len(lines) != len(rows) {
		t.Fatalf("Ruby read %d rows of %d", len(lines), len(rows))
	}
	for i, line := range lines {
		var got map[string]string
		must(t, json.Unmarshal(line, &got))
		for name, want := range shown[i] {
			if got[name] == "nil" && (want == "{}" || want == "[]") {
				continue // as Lockbox before 1.0 reads NULL
			}
			if got[name] != want {
				t.Errorf("row %d: Ruby reads %s as %s, want %s", i+1, name, got[name], want)
			}
		}
		if len(got) != len(shown[i]) {
			t.Errorf("row %d: Ruby read %d values, want %d", i+1, len(got), len(shown[i]))
		}
	}

	again := selectAll(t, db, m)
	want, _ := rubySamples()
	for i := range again {
		v, w := reflect.ValueOf(&again[i]).Elem(), reflect.ValueOf(&want[i]).Elem()
		for j := range v.NumField() {
			name := v.Type().Field(j).Name
			if loaded := w.Field(j).MethodByName("IsLoaded"); !loaded.IsValid() || !loaded.Call(nil)[0].Bool() {
				continue
			}
			got, set := plainOf(t, v.Field(j)), plainOf(t, w.Field(j))
			switch name {
			case "Decimal": // Ruby wrote it without the zero
				set = lockbox.Decimal("-1234.5")
			case "JSON": // any whole number is an int64
				set = map[string]any{"a": []any{int64(1), 2.5, nil, true, "<é>"}}
			case "Day", "Moment", "Clock":
				got, set = rubyTime(name, got), rubyTime(name, set)
			}
			if !reflect.DeepEqual(got, set) {
				t.Errorf("row %d: %s = %#v after Ruby wrote it, want %#v", i+1, name, got, set)
			}
		}
	}
}

// rubyTime is as much of a time as a column of Ruby keeps.
func rubyTime(name string, value any) string {
	at := value.(time.Time)
	switch name {
	case "Day":
		return at.Format(time.DateOnly)
	case "Clock":
		return at.UTC().Format("15:04:05.000000")
	}
	return at.UTC().Format("2006-01-02T15:04:05.000000")
}

// insertSamples makes a table with a column for every field, and fills it.
func insertSamples(t *testing.T, db *sqlx.DB, rows []rubySample) {
	t.Helper()
	var columns []string
	for f := range reflect.TypeFor[rubySample]().Fields() {
		columns = append(columns, f.Tag.Get("db"))
	}
	definition := strings.Join(columns, " text, ") + " text"
	definition = strings.Replace(strings.Replace(definition, "id text", "id integer primary key", 1), "photo_ciphertext text", "photo_ciphertext blob", 1)
	_, err := db.ExecContext(t.Context(), "CREATE TABLE samples ("+definition+")")
	must(t, err)
	for i := range rows {
		_, err := db.NamedExecContext(t.Context(), "INSERT INTO samples ("+strings.Join(columns, ", ")+") VALUES (:"+strings.Join(columns, ", :")+")", &rows[i])
		must(t, err)
	}
}
