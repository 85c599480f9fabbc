package activerecord

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox/rubyyaml"
)

const file = "activerecord.json"

// vectorFile is what Rails wrote, read and searched for.
type vectorFile struct {
	Configs  map[string]vectorConfig
	Derive   []vectorKey
	Writes   []vectorWrite
	Reads    []vectorRead
	Searches []vectorSearch
}

type vectorKey struct {
	Password, Salt vectors.Value
	Digest         Digest `json:"hash_digest_class"`
	Key            vectors.Hex
	ID             string
}

// texts is a text or a list of texts.
type texts []string

func (l *texts) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		return json.Unmarshal(data, (*[]string)(l))
	}
	var one string
	err := json.Unmarshal(data, &one)
	if one != "" {
		*l = texts{one}
	}
	return err
}

type vectorConfig struct {
	PrimaryKey       texts  `json:"primary_key"`
	DeterministicKey texts  `json:"deterministic_key"`
	Salt             string `json:"key_derivation_salt"`
	Digest           Digest `json:"hash_digest_class"`
	SHA1Fallback     bool   `json:"support_sha1_for_non_deterministic_encryption"`
	KeyReferences    bool   `json:"store_key_references"`
	Plaintext        bool   `json:"support_unencrypted_data"`
	Forced           *texts `json:"forced_encoding_for_deterministic_encryption"`
	Previous         []vectorScheme
	Derived          struct{ Primary, Deterministic []vectorKey }

	keepsEncoding bool
}

func (c *vectorConfig) UnmarshalJSON(data []byte) error {
	type plain vectorConfig
	if err := json.Unmarshal(data, (*plain)(c)); err != nil {
		return err
	}
	// Text that is forced to ISO-8859-1 is given as such in the file.
	c.keepsEncoding = strings.Contains(string(data), `"forced_encoding_for_deterministic_encryption"`)
	return nil
}

func (c vectorConfig) encryption() (*Encryption, error) {
	config := Config{
		PrimaryKeys:   Passwords(c.PrimaryKey...),
		Salt:          c.Salt,
		Digest:        c.Digest,
		SHA1Fallback:  c.SHA1Fallback,
		KeyReferences: c.KeyReferences,
		KeepEncoding:  c.keepsEncoding,
	}
	if c.Plaintext {
		config.Plaintext = PlaintextLax
	}
	switch len(c.DeterministicKey) {
	case 0:
	case 1:
		config.DeterministicKey = Password(c.DeterministicKey[0])
	default: // which Config cannot say, and Rails refuses
		config.DeterministicKey = Key{}
	}
	for _, p := range c.Previous {
		p.Key = nil // as Rails does since 7.1
		config.Previous = append(config.Previous, p.scheme(nil))
	}
	return New(config)
}

type vectorScheme struct {
	Deterministic deterministic
	Key           texts
	Provider      struct {
		Type      string
		Keys      []vectors.Hex
		Passwords []string
		Password  string
		Digest    Digest `json:"hash_digest_class"`
	} `json:"key_provider"`
	Downcase   bool
	IgnoreCase bool   `json:"ignore_case"`
	Serializer string `json:"message_serializer"`
	Encryptor  string
	Compress   *bool
	Compressor string
	Plaintext  *bool `json:"support_unencrypted_data"`
	Previous   []vectorScheme
}

// deterministic is true, or {"fixed": false}.
type deterministic struct{ on, notFixed bool }

func (d *deterministic) UnmarshalJSON(data []byte) error {
	d.on, d.notFixed = true, string(data) != "true"
	return nil
}

// scheme returns the options of an attribute. deflated is what a compressor of the
// application made of the text.
func (s vectorScheme) scheme(deflated []byte) Scheme {
	out := Scheme{
		Deterministic: s.Deterministic.on,
		NotFixed:      s.Deterministic.notFixed,
		Keys:          Passwords(s.Key...),
		Envelope:      s.Provider.Type == "envelope",
		Downcase:      s.Downcase || s.IgnoreCase,
		MessagePack:   s.Serializer != "",
		Uncompressed:  s.Compress != nil && !*s.Compress,
		Null:          s.Encryptor == "null",
	}
	for _, k := range s.Provider.Keys {
		out.Keys = append(out.Keys, RawKey(k))
	}
	for _, p := range append(s.Provider.Passwords, s.Provider.Password) {
		if p != "" {
			out.Keys = append(out.Keys, Password(p).With(s.Provider.Digest))
		}
	}
	if s.Compressor != "" {
		out.Compressor = given(deflated)
	}
	// Alone it does nothing before Rails 8.1.
	if s.Plaintext != nil && !*s.Plaintext {
		out.Plaintext = PlaintextRefused
	}
	for _, p := range s.Previous {
		out.Previous = append(out.Previous, p.scheme(nil))
	}
	return out
}

// given is a compressor whose bytes are those of the file.
type given []byte

func (g given) Deflate([]byte) ([]byte, error) { return bytes.Clone(g), nil }
func (g given) Inflate(b []byte, limit int) ([]byte, error) {
	return zlibCompressor{}.Inflate(b, limit)
}

type vectorWrite struct {
	Name, Config   string
	Scheme         vectorScheme
	Type           string
	ColumnType     string `json:"column_type"`
	Value          vectors.Value
	Inner          *vectors.Value
	Deflated       *vectors.Stored
	Key            vectors.Hex
	Column         vectors.Stored
	OriginalColumn vectors.Stored `json:"original_column"`
	Error          *vectors.Failure
}

type vectorRead struct {
	Name, Config   string
	Scheme         vectorScheme
	Type           string
	ColumnType     string `json:"column_type"`
	Column         vectors.Stored
	OriginalColumn vectors.Stored `json:"original_column"`
	Read           *vectors.Value
	Error          *vectors.Failure
	Encrypted      *bool
}

type vectorSearch struct {
	Name, Config string
	Scheme       vectorScheme
	Value        vectors.Value
	Extended     bool
	Columns      []vectors.Stored
}

// encryptions derives each key of the file once for all tests.
var encryptions = sync.OnceValue(func() func(vectorFile, string) (*Encryption, error) {
	var mu sync.Mutex
	made := make(map[string]*Encryption)
	return func(f vectorFile, name string) (*Encryption, error) {
		mu.Lock()
		defer mu.Unlock()
		if e, ok := made[name]; ok {
			return e, nil
		}
		e, err := f.Configs[name].encryption()
		made[name] = e
		return e, err
	}
})

func (f vectorFile) attribute(config string, s Scheme) (*Attribute, error) {
	e, err := encryptions()(f, config)
	if err != nil {
		return nil, err
	}
	return e.Attribute(s)
}

// textOf returns the text of a value in the file.
func textOf(v vectors.Value) Text {
	switch {
	case v.Kind == "s" && v.Enc == "":
		return UTF8(v.Text)
	case v.Kind == "s":
		return NewText([]byte(v.Text), v.Enc)
	case v.Enc == "":
		return NewText(v.Bytes, EncodingBinary)
	}
	return NewText(v.Bytes, v.Enc)
}

func isText(v vectors.Value) bool { return v.Kind == "s" || v.Kind == "bin" }

func TestVectorsKeys(t *testing.T) {
	t.Parallel()
	var f vectorFile
	vectors.Load(t, file, &f)
	ran := 0
	for _, c := range f.Derive {
		password, salt := string(textOf(c.Password).Bytes()), string(textOf(c.Salt).Bytes())
		d := deriver{salt: salt, done: make(map[keyText]*key)}
		k, err := d.derive(Key{hidden: secret.Hide(keyText{text: password})}, c.Digest) // also the empty one
		if err != nil || !bytes.Equal(k.raw.Get()[:], c.Key) || k.id != c.ID {
			t.Errorf("derive under %s = %v, %v; want another key", c.Digest, k, err)
		}
		ran++
	}
	for name, c := range f.Configs {
		e, err := encryptions()(f, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, keys := range []struct {
			scheme Scheme
			want   []vectorKey
		}{{Scheme{}, c.Derived.Primary}, {Scheme{Deterministic: true}, c.Derived.Deterministic}} {
			a, err := e.Attribute(keys.scheme)
			if len(keys.want) != 1 && keys.scheme.Deterministic || len(keys.want) == 0 {
				if !errors.Is(err, kmsencrypted.ErrConfig) {
					t.Errorf("configuration %s: Attribute = %v, want ErrConfig", name, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("configuration %s: %v", name, err)
				continue
			}
			for i, k := range a.get().variants[0].keys {
				if i >= len(keys.want) {
					t.Errorf("configuration %s: %d keys, want %d", name, i+1, len(keys.want))
					break
				}
				if want := keys.want[i]; !bytes.Equal(k.raw.Get()[:], want.Key) || k.id != want.ID {
					t.Errorf("configuration %s: key %d differs", name, i)
				}
				ran++
			}
		}
	}
	vectors.Ran(t, file+" keys", ran)
}

// What Rails wrote is read, and written again byte for byte.
func TestVectorsWrites(t *testing.T) {
	t.Parallel()
	var f vectorFile
	vectors.Load(t, file, &f)
	ran, left := 0, map[string]int{}
	for i, c := range f.Writes {
		if why := c.hasNoCounterpart(); why != "" {
			left[why]++
			continue
		}
		ran++
		if err := c.check(f); err != nil {
			t.Errorf("write %d (%s, configuration %s): %v", i, c.Name, c.Config, err)
		}
	}
	vectors.Ran(t, file+" writes", ran)
	report(t, len(f.Writes), ran, left)
}

// hasNoCounterpart says why a write cannot be one of this package.
func (c vectorWrite) hasNoCounterpart() string {
	switch {
	case c.Scheme.Encryptor == "null", c.Scheme.Encryptor == "read_only_null":
		return "another encryptor, which encrypts nothing"
	case c.Scheme.IgnoreCase && !c.Scheme.Deterministic.on:
		return "ignore_case is declared by package field"
	case c.Scheme.Serializer != "" && c.ColumnType == "text":
		return "the type of a column is the caller's"
	}
	return ""
}

func (c vectorWrite) check(f vectorFile) error {
	var deflated []byte
	if c.Deflated != nil {
		deflated = c.Deflated.Bytes
	}
	a, err := f.attribute(c.Config, c.Scheme.scheme(deflated))
	switch {
	case c.writesPlaintext():
		if !errors.Is(err, kmsencrypted.ErrConfig) {
			return fmt.Errorf("Attribute that writes plaintext = %v, want ErrConfig", err)
		}
		return nil
	case c.Error != nil && err == nil:
		return fmt.Errorf("Attribute = nil, want %s", c.Error.Class)
	case c.Error != nil && !errors.Is(err, kmsencrypted.ErrConfig):
		return fmt.Errorf("Attribute = %v, want ErrConfig", err)
	case c.Error != nil:
		return nil
	case err != nil:
		return err
	}
	if err := c.checkOriginal(f); err != nil {
		return err
	}
	inner, null, err := c.text()
	if err != nil {
		return err
	}
	if null || c.Column.Null {
		if null != c.Column.Null && c.Type == "" {
			return fmt.Errorf("null = %t, want %t", null, c.Column.Null)
		}
		return nil
	}
	got, err := a.Decrypt(c.Column.Bytes)
	if err != nil {
		return fmt.Errorf("Decrypt = %w", err)
	}
	if v := a.get().variants[a.get().writes]; v.deterministic {
		// The label is that of what was converted before.
	} else if got.Encoding() != inner.Encoding() {
		return fmt.Errorf("encoding %s, want %s", got.Encoding(), inner.Encoding())
	}
	want := inner.Bytes()
	if a.get().variants[a.get().writes].downcase {
		want = []byte(downcase(string(want)))
	}
	if !bytes.Equal(got.Bytes(), want) {
		return fmt.Errorf("Decrypt = %q, want %q", got.Bytes(), want)
	}
	if current, err := a.IsCurrent(c.Column.Bytes); err != nil || !current {
		return fmt.Errorf("IsCurrent = %t, %w", current, err)
	}
	return c.checkBytes(a, inner)
}

// writesPlaintext reports whether Rails writes the value without encryption.
func (c vectorWrite) writesPlaintext() bool {
	return len(c.Scheme.Previous) > 0 && c.Scheme.Previous[0].Encryptor == "null"
}

// text returns the text under the encryption. Where the file has it, the value of a type
// must become it.
func (c vectorWrite) text() (text Text, null bool, err error) {
	if c.Type != "" {
		typ, err := typeNamed(c.Type)
		if err != nil {
			return Text{}, false, err
		}
		value, ok := goValue(c.Type, c.Value)
		if ok {
			out, null, err := typ.Append(nil, value)
			if errors.Is(err, kmsencrypted.ErrLossy) && strings.Contains(c.Value.Text, ".123456") {
				return textOf(*c.Inner), false, nil // Rails loses the fraction
			}
			if err != nil || null {
				return Text{}, null, err
			}
			want := c.Value
			if c.Inner != nil {
				want = *c.Inner
			}
			if want.Kind != "bin" && c.Inner == nil {
				return NewText(out, typ.Encoding()), false, nil
			}
			if typ.String() == "array" { // the same list, with other quotes than Ruby's
				return textOf(want), false, nil
			}
			if string(out) != string(textOf(want).Bytes()) {
				return Text{}, false, fmt.Errorf("type %s: text %q, want %q", c.Type, out, textOf(want).Bytes())
			}
			if !c.Scheme.Deterministic.on && typ.Encoding() != textOf(want).Encoding() {
				return Text{}, false, fmt.Errorf("type %s: encoding %s, want %s", c.Type, typ.Encoding(), textOf(want).Encoding())
			}
			return NewText(out, typ.Encoding()), false, nil
		}
	}
	switch {
	case c.Inner != nil:
		return textOf(*c.Inner), false, nil
	case !isText(c.Value):
		return Text{}, true, nil
	}
	return textOf(c.Value), false, nil
}

// checkBytes writes the text again with the nonce of the column.
func (c vectorWrite) checkBytes(a *Attribute, inner Text) error {
	all := a.get()
	v := &all.variants[all.writes]
	m, err := v.parse(c.Column.Bytes)
	if err != nil {
		return err
	}
	if again := v.append(nil, m); !bytes.Equal(again, c.Column.Bytes) {
		return fmt.Errorf("the message is written as %s, want %s", again, c.Column.Bytes)
	}
	if v.envelope { // its data key is random
		wrapped, _ := m.get("k").(*message)
		raw, _, err := v.openUnder(m, wrapped)
		if err != nil || !bytes.Equal(raw, c.Key) {
			return fmt.Errorf("the data key differs: %w", err)
		}
		dataKey, err := newKey(raw)
		if err != nil {
			return err
		}
		unwrapped := *v
		unwrapped.envelope, unwrapped.keys, unwrapped.references = false, []*key{dataKey}, false
		got, err := all.encrypt(&unwrapped, inner, m.get("iv").([]byte))
		if err != nil {
			return err
		}
		again, err := unwrapped.parse(got)
		if err != nil || !bytes.Equal(again.payload, m.payload) || !reflect.DeepEqual(again.get("at"), m.get("at")) {
			return fmt.Errorf("the ciphertext differs: %w", err)
		}
		own, err := a.Encrypt(inner)
		if err != nil {
			return err
		}
		other, err := v.parse(own)
		if err != nil || !slices.EqualFunc(other.headers, m.headers, func(a, b header) bool { return a.name == b.name }) {
			return fmt.Errorf("the headers of %s are others: %w", own, err)
		}
		return nil
	}
	if newest := v.keys[len(v.keys)-1].raw.Get()[:]; !bytes.Equal(newest, c.Key) {
		return fmt.Errorf("key %s, want %s", hex.EncodeToString(newest), hex.EncodeToString(c.Key))
	}
	got, err := all.encrypt(v, inner, m.get("iv").([]byte))
	if err == nil && v.deterministic {
		got, err = a.Encrypt(inner)
	}
	if err != nil || !bytes.Equal(got, c.Column.Bytes) {
		return fmt.Errorf("column %s, %w; want %s", got, err, c.Column.Bytes)
	}
	return nil
}

// checkOriginal reads the column original_ of ignore_case.
func (c vectorWrite) checkOriginal(f vectorFile) error {
	if c.OriginalColumn.Null || c.OriginalColumn.Bytes == nil {
		return nil
	}
	a, err := f.attribute(c.Config, Scheme{})
	if err != nil {
		return err
	}
	got, err := a.Decrypt(c.OriginalColumn.Bytes)
	if err != nil || string(got.Bytes()) != c.Value.Text {
		return fmt.Errorf("original column: %q, %w; want %q", got.Bytes(), err, c.Value.Text)
	}
	return nil
}

// report fails the test if cases of the file are neither run nor accounted for.
func report(t *testing.T, all, ran int, left map[string]int) {
	t.Helper()
	for why, n := range left {
		fmt.Printf("vectors: %-24s %4d not run: %s\n", file, n, why)
		ran += n
	}
	if ran != all {
		t.Errorf("%d cases accounted for of %d", ran, all)
	}
}

// typeNamed returns the type of a type in the file.
func typeNamed(name string) (Type, error) {
	names := map[string]string{
		"text": "string", "immutable_string": "string", "big_integer": "integer",
		"serialize_json": "json", "store_json": "json", "serialize_yaml_hash": "hash", "serialize_yaml_array": "array",
	}
	if known, ok := names[name]; ok {
		name = known
	}
	return ParseType(name, rubyyaml.Codec{})
}

// goValue returns the value of a type in the file as the Go value of the type. ok is
// false for one that only Ruby's casts make fit.
func goValue(typ string, v vectors.Value) (value any, ok bool) {
	t, err := typeNamed(typ)
	if err != nil {
		return nil, false
	}
	switch name := t.String(); {
	case v.Kind == "nil":
		return nil, true
	case name == "string":
		return v.Text, v.Kind == "s"
	case name == "binary":
		return append([]byte(v.Text), v.Bytes...), isText(v)
	case name == "boolean":
		return v.Bool, v.Kind == "bool"
	case name == "integer":
		n, err := strconv.ParseInt(v.Text, 10, 64)
		return n, v.Kind == "i" && err == nil
	case name == "float":
		f, err := strconv.ParseFloat(v.Text, 64)
		return f, v.Kind == "f" && err == nil
	case name == "decimal":
		return lockbox.Decimal(v.Text), v.Kind == "decimal"
	case name == "date":
		year, rest, _ := strings.Cut(v.Text, "-")
		day, err := time.Parse("01-02", rest)
		y, bad := strconv.Atoi(year)
		return time.Date(y, day.Month(), day.Day(), 0, 0, 0, 0, time.UTC), v.Kind == "date" && err == nil && bad == nil
	case name == "datetime", name == "time":
		at, err := time.Parse(time.RFC3339Nano, v.Text)
		return at, v.Kind == "time" && err == nil
	}
	return anyValue(v), true
}

func anyValue(v vectors.Value) any {
	switch v.Kind {
	case "bool":
		return v.Bool
	case "i":
		n, _ := strconv.ParseInt(v.Text, 10, 64)
		return n
	case "f":
		f, _ := strconv.ParseFloat(v.Text, 64)
		return f
	case "s":
		return v.Text
	case "a":
		list := make([]any, len(v.List))
		for i, item := range v.List {
			list[i] = anyValue(item)
		}
		return list
	case "h":
		hash := make(lockbox.Hash, len(v.Pairs))
		for i, p := range v.Pairs {
			hash[i] = lockbox.Pair{Key: anyValue(p[0]), Value: anyValue(p[1])}
		}
		return hash
	}
	return nil
}

// What Rails reads is read the same, and what it refuses is refused.
func TestVectorsReads(t *testing.T) {
	t.Parallel()
	var f vectorFile
	vectors.Load(t, file, &f)
	ran, left := 0, map[string]int{}
	for i, c := range f.Reads {
		if strings.HasPrefix(c.Name, "ignore_case") {
			// Which of its two columns counts is the record's.
			left["ignore_case is read by package field"]++
			continue
		}
		if c.Column.Null {
			left["NULL, which is no column to decrypt"]++
			continue
		}
		ran++
		if err := c.check(f); err != nil {
			t.Errorf("read %d (%s, configuration %s): %v", i, c.Name, c.Config, err)
		}
	}
	vectors.Ran(t, file+" reads", ran)
	report(t, len(f.Reads), ran, left)
}

// readByAccident are the cases that Rails reads because Ruby's JSON or to_i is lax, and
// that are refused here.
var readByAccident = []string{"comment inside", "headers a list"}

func (c vectorRead) check(f vectorFile) error {
	s := c.Scheme.scheme(nil)
	if c.ColumnType == "default" {
		s.ColumnDefault = []byte("none")
	}
	a, err := f.attribute(c.Config, s)
	if err != nil {
		return err
	}
	got, err := a.Decrypt(c.Column.Bytes)
	if err == nil && c.Error != nil && c.Error.Class != "ActiveRecord::SerializationTypeMismatch" {
		_, err = got.UTF8() // an encoding that Ruby does not know
	}
	switch {
	case slices.Contains(readByAccident, c.Name), c.Error != nil && c.Error.Class != "ActiveRecord::SerializationTypeMismatch":
		for _, typed := range []error{kmsencrypted.ErrDecrypt, kmsencrypted.ErrMalformed, kmsencrypted.ErrNotCiphertext, kmsencrypted.ErrType} {
			if errors.Is(err, typed) {
				return c.checkError(typed)
			}
		}
		return fmt.Errorf("Decrypt = %v, want a typed error", err)
	case err != nil:
		return err
	case c.Type != "":
		return c.checkType(got)
	}
	want := textOf(*c.Read)
	sameLabel := strings.EqualFold(got.Encoding(), want.Encoding()) ||
		isUnlabelled(got.Encoding()) && isUnlabelled(want.Encoding()) ||
		isBinary(got.Encoding()) && isBinary(want.Encoding()) ||
		c.ColumnType == "binary" // read as bytes in any case
	if !bytes.Equal(got.Bytes(), want.Bytes()) || !sameLabel {
		return fmt.Errorf("Decrypt = %q in %s, want %q in %s", got.Bytes(), got.Encoding(), want.Bytes(), want.Encoding())
	}
	return nil
}

// checkError compares the error with what encrypted_attribute? says, which is whether the
// column parses.
func (c vectorRead) checkError(typed error) error {
	parses := typed != kmsencrypted.ErrNotCiphertext
	if c.Encrypted != nil && *c.Encrypted != parses && !slices.Contains(readByAccident, c.Name) {
		return fmt.Errorf("%v, and encrypted? is %t", typed, *c.Encrypted)
	}
	return nil
}

// checkType compares a value. Text that Ruby takes for a number, or for nil in JSON, is
// refused.
func (c vectorRead) checkType(got Text) error {
	typ, err := typeNamed(c.Type)
	if err != nil {
		return err
	}
	into := map[string]any{
		"string": new(string), "binary": new([]byte), "boolean": new(bool), "integer": new(int64), "float": new(float64),
		"decimal": new(lockbox.Decimal), "date": new(time.Time), "datetime": new(time.Time), "time": new(time.Time),
		"json": new(any), "hash": new(lockbox.Hash), "array": new([]any),
	}[typ.String()]
	null, err := typ.Parse(got.Bytes(), into)
	switch number := typ.String() == "integer" || typ.String() == "float"; {
	case c.Error != nil && err == nil:
		return fmt.Errorf("Parse = nil, want %s", c.Error.Class)
	case c.Error != nil:
		return nil
	case typ.String() == "json" && err != nil && c.Read.Kind == "nil":
		return nil
	case number && err != nil && slices.Contains([]string{"0", "0.0", "1", "99999999999999999999"}, c.Read.Text):
		return nil
	case err != nil:
		return err
	}
	if c.Read.Kind == "nil" || null {
		if null != (c.Read.Kind == "nil") {
			return fmt.Errorf("null = %t, want %s", null, c.Read.Kind)
		}
		return nil
	}
	want, ok := goValue(c.Type, *c.Read)
	if !ok {
		return fmt.Errorf("no Go value for a %s", c.Read.Kind)
	}
	value := reflect.ValueOf(into).Elem().Interface()
	again, _, err := typ.Append(nil, value)
	wanted, _, bad := typ.Append(nil, want)
	if errors.Join(err, bad) == nil && string(again) == string(wanted) || fmt.Sprint(value) == fmt.Sprint(want) {
		return nil
	}
	return fmt.Errorf("Parse = %v, want %v", value, want)
}

// What Rails searches for is searched for, and the values of the current scheme besides.
func TestVectorsSearches(t *testing.T) {
	t.Parallel()
	var f vectorFile
	vectors.Load(t, file, &f)
	ran, left := 0, map[string]int{}
	for _, c := range f.Searches {
		if c.Value.Kind == "nil" {
			left["NULL, which is no column to look up"]++
			continue
		}
		ran++
		a, err := f.attribute(c.Config, c.Scheme.scheme(nil))
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		got, err := a.Lookup(textOf(c.Value))
		if err != nil {
			t.Errorf("%s: Lookup = %v", c.Name, err)
			continue
		}
		var want []string
		for _, column := range c.Columns {
			if !slices.Contains(want, string(column.Bytes)) {
				want = append(want, string(column.Bytes))
			}
		}
		if len(got) == 0 || string(got[0]) != want[0] {
			t.Errorf("%s: Lookup begins with %q, want %q", c.Name, got, want[0])
		}
		for _, column := range want {
			if !slices.ContainsFunc(got, func(b []byte) bool { return string(b) == column }) {
				t.Errorf("%s: Lookup = %q lacks %s", c.Name, got, column)
			}
		}
		for _, column := range got {
			if text, err := a.Decrypt(column); err != nil || !strings.EqualFold(string(text.Bytes()), c.Value.Text) {
				t.Errorf("%s: Lookup has %s, which is %q, %v", c.Name, column, text.Bytes(), err)
			}
		}
		if c.Extended && len(got) > len(want)+1 {
			t.Errorf("%s: Lookup = %q, want %q", c.Name, got, want)
		}
	}
	vectors.Ran(t, file+" searches", ran)
	report(t, len(f.Searches), ran, left)
}
