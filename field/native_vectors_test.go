package field_test

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// The vectors of testdata/native were written from spec/native.md by a program
// that shares no code with this library.

// vectorKey is the provider that wrapped the data keys of all columns.
var vectorKey = vectors.NativeProvider{Name: "one", Tag: "vector one"}

// storedColumn is a column in the database: text, bytes or NULL.
type storedColumn struct {
	Text *string
	B64  []byte
	Null bool
}

func (c storedColumn) driverValue() any {
	switch {
	case c.Null:
		return nil
	case c.Text != nil:
		return *c.Text
	}
	return c.B64
}

// columnCase is a case of column.json.
type columnCase struct {
	Name           string
	Row            string
	KeyColumn      *string `json:"key_column"`
	Column         storedColumn
	Value          json.RawMessage
	ValueB64       []byte      `json:"value_b64"` // of a string that JSON cannot say
	SealingKey     vectors.Hex `json:"sealing_key"`
	AssociatedData vectors.Hex `json:"associated_data"`
	Plaintext      vectors.Hex
	Written        bool // a writer seals this very plaintext
	Error          string
}

// Rows of one encrypted column, as they differ by tag.
type (
	plainRow[T any] struct {
		ID  int64       `db:"id"`
		Key field.Key   `db:"encrypted_kms_key"`
		V   field.Of[T] `db:"value_ciphertext"`
	}
	binaryRow struct {
		ID  int64            `db:"id"`
		Key field.Key        `db:"encrypted_kms_key"`
		V   field.Of[string] `db:"value_ciphertext" kms:"binary"`
	}
	paddedRow struct {
		ID  int64            `db:"id"`
		Key field.Key        `db:"encrypted_kms_key"`
		V   field.Of[string] `db:"value_ciphertext" kms:"padding=16"`
	}
	jsonRow struct {
		ID  int64            `db:"id"`
		Key field.Key        `db:"encrypted_kms_key"`
		V   field.Of[string] `db:"value_ciphertext" kms:"type=json"`
	}
	dateRow struct {
		ID  int64               `db:"id"`
		Key field.Key           `db:"encrypted_kms_key"`
		V   field.Of[time.Time] `db:"value_ciphertext" kms:"type=date"`
	}
	timeRow struct {
		ID  int64               `db:"id"`
		Key field.Key           `db:"encrypted_kms_key"`
		V   field.Of[time.Time] `db:"value_ciphertext" kms:"type=time"`
	}
	renamedRow struct {
		ID  int64            `db:"id"`
		Key field.Key        `db:"new_key" kms:"as=encrypted_kms_key"`
		V   field.Of[string] `db:"new_value" kms:"as=value_ciphertext"`
	}
)

// parts are the primary key, the key column and the encrypted column of a row.
type parts[T any] struct {
	id  *int64
	key *field.Key
	v   *field.Of[T]
}

func (r *plainRow[T]) parts() parts[T]     { return parts[T]{&r.ID, &r.Key, &r.V} }
func (r *binaryRow) parts() parts[string]  { return parts[string]{&r.ID, &r.Key, &r.V} }
func (r *paddedRow) parts() parts[string]  { return parts[string]{&r.ID, &r.Key, &r.V} }
func (r *jsonRow) parts() parts[string]    { return parts[string]{&r.ID, &r.Key, &r.V} }
func (r *dateRow) parts() parts[time.Time] { return parts[time.Time]{&r.ID, &r.Key, &r.V} }
func (r *timeRow) parts() parts[time.Time] { return parts[time.Time]{&r.ID, &r.Key, &r.V} }
func (r *renamedRow) parts() parts[string] { return parts[string]{&r.ID, &r.Key, &r.V} }

// point is a type that this package does not know.
type point struct{ x, y byte }

func (p *point) UnmarshalJSON(data []byte) error {
	var xy [2]byte
	err := json.Unmarshal(data, &xy)
	*p = point{xy[0], xy[1]}
	return err
}

var pointType = field.TypeOf("point",
	func(p point) ([]byte, error) { return []byte{p.x, p.y}, nil },
	func(b []byte) (point, error) {
		if len(b) != 2 {
			return point{}, errors.New("a point has two bytes")
		}
		return point{b[0], b[1]}, nil
	})

// sameMap compares maps as JSON: the vectors do not say which Go type a number has.
func sameMap(got, want any) bool {
	_, isMap := got.(map[string]any)
	a, errA := json.Marshal(got)
	b, errB := json.Marshal(want)
	return isMap && errA == nil && errB == nil && string(a) == string(b)
}

// nativeRows runs a case on the row that it names.
var nativeRows = map[string]func(*testing.T, columnCase){
	"string": onRow[plainRow[string], string], "bytes": onRow[plainRow[[]byte], []byte], "bool": onRow[plainRow[bool], bool],
	"int64": onRow[plainRow[int64], int64], "int8": onRow[plainRow[int8], int8],
	"uint64": onRow[plainRow[uint64], uint64], "uint8": onRow[plainRow[uint8], uint8],
	"float64": onRow[plainRow[float64], float64], "float32": onRow[plainRow[float32], float32],
	"datetime": onRow[plainRow[time.Time], time.Time], "date": onRow[dateRow, time.Time], "time": onRow[timeRow, time.Time],
	"addr": onRow[plainRow[netip.Addr], netip.Addr], "prefix": onRow[plainRow[netip.Prefix], netip.Prefix],
	"text": onRow[plainRow[big.Int], big.Int], "custom": onRow[plainRow[point], point],
	"json": onRow[plainRow[map[string]any], map[string]any], "json string": onRow[jsonRow, string],
	"pointer": onRow[plainRow[*string], *string], "sql.Null": onRow[plainRow[sql.Null[int64]], sql.Null[int64]],
	"binary": onRow[binaryRow, string], "padded": onRow[paddedRow, string], "pinned": onRow[renamedRow, string],
}

// onRow opens the column of a case and, where a writer would write the same
// plaintext, seals it again and opens that by hand.
func onRow[R, T any, P interface {
	*R
	parts() parts[T]
}](t *testing.T, c columnCase) {
	config := field.Config{Table: "customers", Types: []field.Type{pointType}}
	if c.Row == "pinned" {
		config = field.Config{Table: "clients", As: "customers"}
	}
	var row R
	m := newAnyModel(t, nativeBox(t, kmsencrypted.Version{Provider: vectorKey}), &row, config)
	p := P(&row).parts()
	*p.id = 7
	must(t, errors.Join(p.v.Scan(c.Column.driverValue()), p.key.Scan(nil)))
	if c.KeyColumn != nil {
		must(t, p.key.Scan(*c.KeyColumn))
	}
	err := m.open(t, &row)
	if c.Error != "" {
		vectors.WantOnly(t, c.Name, err, c.Error)
		if got, err := p.v.Get(); !errors.Is(err, kmsencrypted.ErrNotOpened) {
			t.Errorf("%s: after a refusal Get = %v, %v, want ErrNotOpened", c.Name, got, err)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: Open: %v", c.Name, err)
		return
	}
	want := wantedValue[T](t, c)
	if got := p.v.Must(); !reflect.DeepEqual(got, want) && !sameMap(got, want) {
		t.Errorf("%s: Open = %v, want %v", c.Name, got, want)
	}
	if !c.Written {
		return
	}
	p.v.Set(want)
	must(t, m.seal(t, &row))
	checkColumn(t, c, column(t, *p.v))
	if got := column(t, *p.key); got != *c.KeyColumn {
		t.Errorf("%s: Seal changed the key column to %v", c.Name, got)
	}
}

func wantedValue[T any](t *testing.T, c columnCase) (want T) {
	t.Helper()
	if c.ValueB64 != nil {
		reflect.ValueOf(&want).Elem().SetString(string(c.ValueB64))
		return want
	}
	must(t, json.Unmarshal(c.Value, &want))
	return want
}

// checkColumn opens a written column by section 5 of the specification, not by
// the library.
func checkColumn(t *testing.T, c columnCase, written any) {
	t.Helper()
	sealed, isBinary := written.([]byte)
	stored := c.Column.B64
	if !isBinary {
		var err error
		sealed, err = base64.StdEncoding.Strict().DecodeString(written.(string))
		must(t, err)
		stored, err = base64.StdEncoding.DecodeString(*c.Column.Text)
		must(t, err)
	}
	if bytes.Equal(sealed, stored) {
		t.Errorf("%s: the nonce was used twice", c.Name)
	}
	const head = 1 + 8
	if !bytes.Equal(sealed[:head], stored[:head]) {
		t.Errorf("%s: format and key tag are %x, want %x", c.Name, sealed[:head], stored[:head])
	}
	plaintext, err := vectors.OpenGCM(c.SealingKey, sealed[head:], c.AssociatedData)
	if err != nil || !bytes.Equal(plaintext, c.Plaintext) {
		t.Errorf("%s: sealed %x, %v, want %x", c.Name, plaintext, err, c.Plaintext)
	}
}

func TestNativeColumnVectors(t *testing.T) {
	t.Parallel()
	cases := vectors.Native[columnCase](t, "column.json")
	for _, c := range cases {
		run := nativeRows[c.Row]
		if run == nil {
			t.Errorf("%s: unknown row %q", c.Name, c.Row)
			continue
		}
		run(t, c)
	}
	vectors.Ran(t, "native/column.json", len(cases))
}

// sealedRow declares its columns in another order than the record seal has them.
type sealedRow struct {
	ID    int64               `db:"id"`
	Key   field.Key           `db:"encrypted_kms_key"`
	Email field.Of[string]    `db:"email_ciphertext"`
	Born  field.Of[time.Time] `db:"born_ciphertext" kms:"type=date"`
	Notes field.Of[[]byte]    `db:"notes_ciphertext" kms:"binary"`
}

func (r *sealedRow) columns() map[string]sql.Scanner {
	return map[string]sql.Scanner{"email_ciphertext": &r.Email, "born_ciphertext": &r.Born, "notes_ciphertext": &r.Notes}
}

// recordSealCase is a case of record_seal.json. A column that is not listed was
// not read.
type recordSealCase struct {
	Name      string
	KeyColumn string `json:"key_column"`
	Columns   map[string]storedColumn
	Seal      vectors.Hex
	Values    struct {
		Email *string
		Born  *string
		Notes *[]byte
	}
	Error string
}

func (c recordSealCase) read(t *testing.T) sealedRow {
	t.Helper()
	row := sealedRow{ID: 7}
	must(t, row.Key.Scan(c.KeyColumn))
	for name, scanner := range row.columns() {
		if stored, read := c.Columns[name]; read {
			must(t, scanner.Scan(stored.driverValue()))
		}
	}
	return row
}

func TestNativeRecordSealVectors(t *testing.T) {
	t.Parallel()
	m := newModel[sealedRow](t, nativeBox(t, kmsencrypted.Version{Provider: vectorKey, RecordSeal: true}), field.Config{Table: "customers"})
	cases := vectors.Native[recordSealCase](t, "record_seal.json")
	for _, c := range cases {
		row := c.read(t)
		err := m.Open(t.Context(), &row)
		if c.Error != "" {
			vectors.WantOnly(t, c.Name, err, c.Error)
			if c.Error == "ErrRecordSeal" {
				c.checkRefused(t, m)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: Open: %v", c.Name, err)
			continue
		}
		c.checkValues(t, &row)
		if len(c.Columns) < len(row.columns()) {
			continue
		}
		// A rewrap to the same version writes the same key column: wraps,
		// commitment and seal.
		again := c.read(t)
		if err := m.Rewrap(t.Context(), &again); err != nil {
			t.Errorf("%s: Rewrap: %v", c.Name, err)
			continue
		}
		text := column(t, again.Key).(string)
		_, body, _ := keycolumn.SplitVersion(text)
		parsed, err := keycolumn.ParseText(body)
		if err != nil || text != c.KeyColumn || !bytes.Equal(parsed.Rest, c.Seal) {
			t.Errorf("%s: Rewrap = %q, %v, seal %x, want %q, %x", c.Name, text, err, parsed.Rest, c.KeyColumn, c.Seal)
		}
	}
	vectors.Ran(t, "native/record_seal.json", len(cases))
}

// checkRefused shows that a wrong seal is neither renewed nor overlooked by a
// reader that opens one column.
func (c recordSealCase) checkRefused(t *testing.T, m *field.Model[sealedRow]) {
	t.Helper()
	row := c.read(t)
	vectors.WantOnly(t, c.Name+": Rewrap", m.Rewrap(t.Context(), &row), c.Error)
	vectors.WantOnly(t, c.Name+": Rekey", m.Rekey(t.Context(), &row), c.Error)
	row.Email.Set("another")
	vectors.WantOnly(t, c.Name+": Seal", m.Seal(t.Context(), &row), c.Error)
	row = c.read(t)
	m.OpenLazily(&row)
	if !row.Email.IsNull() {
		_, err := row.Email.Plain(t.Context())
		vectors.WantOnly(t, c.Name+": Plain", err, c.Error)
	}
}

func (c recordSealCase) checkValues(t *testing.T, row *sealedRow) {
	t.Helper()
	check := func(column string, isNull, wantNull bool, got, want any) {
		if _, read := c.Columns[column]; read && (isNull != wantNull || !reflect.DeepEqual(got, want)) {
			t.Errorf("%s: %s = %v, NULL %v, want %v, NULL %v", c.Name, column, got, isNull, want, wantNull)
		}
	}
	email, _ := row.Email.Get()
	check("email_ciphertext", row.Email.IsNull(), c.Values.Email == nil, email, zeroOr(c.Values.Email))
	born, _ := row.Born.Get()
	day := ""
	if !row.Born.IsNull() {
		day = born.Format(time.DateOnly)
	}
	check("born_ciphertext", row.Born.IsNull(), c.Values.Born == nil, day, zeroOr(c.Values.Born))
	notes, _ := row.Notes.Get()
	check("notes_ciphertext", row.Notes.IsNull(), c.Values.Notes == nil, notes, zeroOr(c.Values.Notes))
}

func zeroOr[T any](v *T) (value T) {
	if v != nil {
		value = *v
	}
	return value
}
