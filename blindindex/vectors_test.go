package blindindex

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

const vectorFile = "blind_index.json"

// vectorCase is a call of BlindIndex.generate_bidx.
type vectorCase struct {
	Name       string
	Key        json.RawMessage // hex, or a tagged value
	Options    vectorOptions
	Expression string
	Encode     string
	Value      vectors.Value
	Bidx       vectors.Stored
	Error      *vectors.Failure
}

type vectorOptions struct {
	Algorithm   string
	Slow        bool
	Cost        struct{ T, M, N, R, P, Iterations int }
	Iterations  int
	Size        *int
	Legacy      bool
	InsecureKey bool `json:"insecure_key"`
}

func TestVectorsIndexKeys(t *testing.T) {
	t.Parallel()
	var file struct {
		IndexKeys []struct {
			Table     vectors.Value
			Column    vectors.Value    `json:"bidx_attribute"`
			MasterKey string           `json:"master_key"`
			Key       string           `json:"key"`
			Error     *vectors.Failure `json:"error"`
		} `json:"index_keys"`
	}
	vectors.Load(t, vectorFile, &file)
	for _, c := range file.IndexKeys {
		masterKey, err := ParseMasterKey(c.MasterKey)
		if err != nil {
			t.Fatal(err)
		}
		key, err := masterKey.IndexKey(c.Table.Text, c.Column.Text)
		checkKeyVector(t, fmt.Sprintf("IndexKey(%q, %q)", c.Table.Text, c.Column.Text), key, err, c.Key, c.Error)
	}
	vectors.Ran(t, vectorFile, len(file.IndexKeys))
}

// The master keys belong to table users, column email_bidx, as their first key shows.
func TestVectorsMasterKeys(t *testing.T) {
	t.Parallel()
	var file struct {
		MasterKeys []struct {
			Name      string
			MasterKey vectors.Value    `json:"master_key"`
			Key       string           `json:"key"`
			Error     *vectors.Failure `json:"error"`
		} `json:"master_keys"`
	}
	vectors.Load(t, vectorFile, &file)
	for _, c := range file.MasterKeys {
		raw, err := keyOf(c.MasterKey)
		var masterKey MasterKey
		if err == nil {
			masterKey, err = NewMasterKey(raw)
		}
		var key []byte
		if err == nil {
			key, err = masterKey.IndexKey("users", "email_bidx")
		}
		checkKeyVector(t, "master key "+c.Name, key, err, c.Key, c.Error)
	}
	vectors.Ran(t, vectorFile, len(file.MasterKeys))
}

func checkKeyVector(t *testing.T, call string, key []byte, err error, want string, failure *vectors.Failure) {
	t.Helper()
	switch {
	case failure != nil:
		if !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s = %x, %v, want %v for %q", call, key, err, kmsencrypted.ErrConfig, failure.Message)
		}
	case err != nil || hex.EncodeToString(key) != want:
		t.Errorf("%s = %x, %v, want %s", call, key, err, want)
	}
}

// keyOf is a key as Go has it: text goes through ParseKey, bytes are the key.
func keyOf(v vectors.Value) ([]byte, error) {
	switch v.Kind {
	case "bin":
		return v.Bytes, nil
	case "nil":
		return nil, nil
	}
	return ParseKey(v.Text)
}

// refusedEarlier: Ruby checks key and options only when there is a value to hash;
// here they are checked when the index is made. Such a case is refused although
// Ruby returns nil.
func (c vectorCase) refusedEarlier() bool {
	if c.Error != nil || !c.Bidx.Null || c.Value.Kind != "nil" {
		return false
	}
	key, keyErr := c.key()
	o, err := c.options()
	if keyErr == nil && err == nil {
		_, err = New(key, "email_bidx", o)
	}
	return keyErr != nil || err != nil
}

func TestVectorsCases(t *testing.T) {
	t.Parallel()
	var file struct{ Cases []vectorCase }
	vectors.Load(t, vectorFile, &file)
	for i, c := range file.Cases {
		if _, known := rubyExpressions[c.Expression]; !known {
			t.Fatalf("case %d (%s): no expression %q here", i, c.Name, c.Expression)
		}
		column, err := c.compute()
		call := fmt.Sprintf("case %d (%s): Compute(%+v)", i, c.Name, c.Value)
		switch {
		case c.refusedEarlier():
			if !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("%s = %v, want %v", call, err, kmsencrypted.ErrConfig)
			}
		case c.Error != nil:
			want := kmsencrypted.ErrConfig
			if c.Expression != "" {
				want = errNoMethod
			}
			if !errors.Is(err, want) {
				t.Errorf("%s = %q, %v, want %v for %q", call, column.Text(), err, want, c.Error.Message)
			}
		case err != nil || column.IsNull() != c.Bidx.Null || column.Text() != string(c.Bidx.Bytes):
			t.Errorf("%s = %q, %v, want %q", call, column.Text(), err, c.Bidx.Bytes)
		}
	}
	vectors.Ran(t, vectorFile, len(file.Cases))
}

func (c vectorCase) compute() (Column, error) {
	key, err := c.key()
	if err != nil {
		return Column{}, err
	}
	o, err := c.options()
	if err != nil {
		return Column{}, err
	}
	x, err := New(key, "email_bidx", o)
	if err != nil {
		return Column{}, err
	}
	value, err := goValue(c.Value)
	if err != nil {
		return Column{}, err
	}
	return x.Compute(value)
}

func (c vectorCase) key() ([]byte, error) {
	var text string
	if json.Unmarshal(c.Key, &text) == nil {
		return ParseKey(text)
	}
	var v vectors.Value
	if err := json.Unmarshal(c.Key, &v); err != nil {
		return nil, err
	}
	if c.Options.InsecureKey && v.Kind == "s" {
		return []byte(v.Text), nil
	}
	return keyOf(v)
}

func (c vectorCase) options() (Options, error) {
	o := Options{
		Legacy:      c.Options.Legacy,
		InsecureKey: c.Options.InsecureKey,
		Encoding: map[string]Encoding{
			"":      nil,
			"false": Raw,
			"hex":   func(hash []byte) Column { return TextColumn(hex.EncodeToString(hash)) },
		}[c.Encode],
		Expression: rubyExpressions[c.Expression],
	}
	if size := c.Options.Size; size != nil {
		if o.Size = *size; o.Size == 0 {
			o.Size = -1 // in Go zero is the default
		}
	}
	var err error
	if c.Options.Algorithm != "" {
		if o.Algorithm, err = ParseAlgorithm(c.Options.Algorithm, c.Options.Slow); err != nil {
			return o, err
		}
	} else if c.Options.Slow || c.Options.Cost.T+c.Options.Cost.M > 0 {
		o.Algorithm = Argon2id{Slow: c.Options.Slow}
	}
	o.Algorithm = c.withCost(o.Algorithm)
	return o, nil
}

func (c vectorCase) withCost(a Algorithm) Algorithm {
	cost := c.Options.Cost
	switch a := a.(type) {
	case Argon2id:
		a.Time, a.MemoryLog2 = cost.T, cost.M
		return a
	case Argon2i:
		return Argon2i{Time: cost.T, MemoryLog2: cost.M}
	case PBKDF2:
		a.Iterations = orDefault(cost.Iterations, c.Options.Iterations)
		return a
	case Scrypt:
		return Scrypt{N: cost.N, R: cost.R, P: cost.P}
	}
	return a
}

// goValue is the Go value that a program would have for a Ruby value.
func goValue(v vectors.Value) (any, error) {
	switch v.Kind {
	case "nil":
		return nil, nil
	case "bin":
		return v.Bytes, nil
	case "bool":
		return v.Bool, nil
	case "i":
		var n int64
		_, err := fmt.Sscan(v.Text, &n)
		return n, err
	case "f":
		var f float64
		_, err := fmt.Sscan(v.Text, &f)
		return f, err
	case "s", "sym":
		return v.Text, nil
	}
	return nil, fmt.Errorf("a Ruby value of kind %q has no Go value here", v.Kind)
}

var errNoMethod = errors.New("undefined method for nil")

// rubyExpressions are the functions that the vectors name.
var rubyExpressions = map[string]Expression{
	"": nil,
	"downcase": func(p Plaintext) (Plaintext, error) {
		if p.IsNull() {
			return Plaintext{}, errNoMethod
		}
		return Lower(p)
	},
	"presence": Presence,
	"last4":    Last(4),
	"digits":   Digits,
	"nil":      func(Plaintext) (Plaintext, error) { return Plaintext{}, nil },
}

// Whole rows that a Rails application wrote: key derivation, versions, slow and
// default cost together.
func TestVectorsModelRows(t *testing.T) {
	t.Parallel()
	const file = "model_rows.json"
	var rows struct {
		MasterKey   string `json:"blind_index_master_key"`
		MasterKeyV2 string `json:"blind_index_master_key_v2"`
		Rows        []struct {
			Step    string
			Table   string
			Columns map[string]*string
			Values  map[string]json.RawMessage
		}
	}
	vectors.Load(t, file, &rows)
	indexes := []rowIndex{
		{"email", "email_bidx", rows.MasterKey, Options{}},
		{"email", "email_ci_bidx", rows.MasterKey, Options{Expression: Lower}},
		{"iban", "iban_bidx", rows.MasterKey, Options{Algorithm: Argon2id{Slow: true}}},
		{"iban", "iban_bidx_v2", rows.MasterKeyV2, Options{}},
	}
	ran := 0
	for _, row := range rows.Rows {
		for _, index := range indexes {
			want, stored := row.Columns[index.column]
			var value vectors.Value
			if !stored || json.Unmarshal(row.Values[index.value], &value) != nil || value.Kind == "error" {
				continue // another model, or a row that Ruby could not read
			}
			plain, err := goValue(value)
			if err != nil {
				t.Fatal(err)
			}
			got, err := index.index(t, row.Table).Compute(plain)
			wanted := Column{}
			if want != nil {
				wanted = TextColumn(*want)
			}
			if err != nil || got != wanted {
				t.Errorf("%s: Compute of %s.%s = %q, %v, want %q", row.Step, row.Table, index.column, got.Text(), err, wanted.Text())
			}
			ran++
		}
	}
	vectors.Ran(t, file, ran)
}

// rowIndex is an index of the Rails application.
type rowIndex struct {
	value, column, masterKey string
	options                  Options
}

func (r rowIndex) index(t *testing.T, table string) *Index {
	t.Helper()
	masterKey, err := ParseMasterKey(r.masterKey)
	if err != nil {
		t.Fatal(err)
	}
	x, err := Derive(masterKey, table, r.column, r.options)
	if err != nil {
		t.Fatal(err)
	}
	return x
}
