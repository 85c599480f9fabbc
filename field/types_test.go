package field

import (
	"crypto/ed25519"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/mail"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox/rubyyaml"
)

// Types with and without encodings of their own, good ones and broken ones.
type (
	celsius   float64
	word      string
	flags     uint8
	token     struct{ value string } //lint:ignore U1000 state that no encoding sees
	pair2     struct{ A, B any }
	tree      struct{ Kids []*tree }
	withMap   struct{ M map[string][]int }
	shadowed  struct{ Inner, Name string }
	outerName struct {
		shadowed
		Name string
	}
	stamped struct {
		time.Time
		Note string
	}
	idAndNote struct {
		uuid.UUID
		Note string
	}
	hiddenTag struct {
		Kept string
		Lost int `json:"-"`
	}
	omits struct {
		P *int           `json:",omitempty"`
		S []int          `json:",omitempty"`
		M map[string]int `json:",omitempty"`
	}
	quoted struct {
		N int64 `json:",string"`
	}
	holdsIface struct{ E error }
	byBool     struct{ M map[bool]int }
	rawInside  struct{ R json.RawMessage }
	numInside  struct{ N json.Number }
	onlyNames  struct{ S fmt.Stringer }
)

// upper encodes to upper case and decodes its own output.
type upper string

func (u upper) MarshalText() ([]byte, error)  { return []byte(strings.ToUpper(string(u))), nil }
func (u *upper) UnmarshalText(t []byte) error { *u = upper(t); return nil }

// picky encodes values that it does not decode.
type picky string

func (p picky) MarshalText() ([]byte, error) { return []byte(p), nil }
func (p *picky) UnmarshalText(t []byte) error {
	if len(t) > 3 {
		return fmt.Errorf("longer than 3: %s", t)
	}
	*p = picky(t)
	return nil
}

// sealedState has unexported state and keeps all of it by methods of the pointer.
type sealedState struct{ n int64 }

func (s *sealedState) MarshalJSON() ([]byte, error) { return json.Marshal(s.n) }
func (s *sealedState) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &s.n) }

// halfState loses its second half.
type halfState struct {
	N    int64
	lost int64 //lint:ignore U1000 state that its own encoding forgets
}

func (s halfState) MarshalJSON() ([]byte, error)  { return json.Marshal(s.N) }
func (s *halfState) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &s.N) }

// onlyWrites has one half of an encoding.
type onlyWrites struct{ N int }

func (o onlyWrites) MarshalText() ([]byte, error) { return []byte(fmt.Sprint(o.N)), nil }

// loose calls equal what differs in case.
type loose struct{ S string }

func (l loose) Equal(m loose) bool            { return strings.EqualFold(l.S, m.S) }
func (l loose) MarshalText() ([]byte, error)  { return []byte(strings.ToLower(l.S)), nil }
func (l *loose) UnmarshalText(t []byte) error { l.S = string(t); return nil }

func typesOf(values ...any) (types []reflect.Type) {
	for _, v := range values {
		types = append(types, reflect.TypeOf(v).Elem())
	}
	return types
}

var (
	scalarTypes = typesOf(new(string), new(bool), new(int), new(int8), new(int16), new(int32), new(int64), new(uint), new(uint8),
		new(uint16), new(uint32), new(uint64), new(float32), new(float64), new([]byte), new(any), new(word), new(celsius), new(flags),
		new(time.Time), new(time.Duration), new(time.Month), new([16]byte))
	namedTypes = typesOf(new(token), new(pair2), new(tree), new(withMap), new(outerName), new(stamped), new(idAndNote), new(hiddenTag),
		new(omits), new(quoted), new(holdsIface), new(byBool), new(rawInside), new(numInside), new(onlyNames), new(upper),
		new(picky), new(sealedState), new(halfState), new(onlyWrites), new(loose),
		new(netip.Addr), new(netip.Prefix), new(netip.AddrPort), new(net.IP), new(net.IPNet), new(net.HardwareAddr), new(net.TCPAddr),
		new(url.URL), new(url.Values), new(url.Userinfo), new(mail.Address), new(http.Header), new(http.Cookie), new(big.Int), new(big.Rat),
		new(big.Float), new(regexp.Regexp), new(atomic.Int64), new(atomic.Value), new(json.Number), new(json.RawMessage), new(error),
		new(chan int), new(func()), new(complex128), new(strings.Builder), new(time.Location), new(time.Timer), new(ed25519.PublicKey),
		new(uuid.UUID), new(uuid.NullUUID), new(sql.NullString), new(sql.NullInt64), new(sql.NullTime), new(sql.NullBool), new(sql.NullFloat64),
		new(sql.Null[string]), new(sql.Null[time.Time]), new(sql.Null[[]byte]), new(sql.Null[uuid.UUID]), new(sql.Null[map[string]int]),
		new(pgtype.Text), new(pgtype.Int4), new(pgtype.Int8), new(pgtype.Bool), new(pgtype.Float8), new(pgtype.Timestamptz), new(pgtype.Timestamp),
		new(pgtype.Date), new(pgtype.UUID), new(pgtype.Numeric), new(pgtype.Interval), new(pgtype.Time), new(pgtype.Point), new(pgtype.Bits),
		new(pgtype.FlatArray[int]), new(pgtype.Array[string]), new(pgtype.Range[pgtype.Int4]), new(pgtype.Hstore),
		new(lockbox.Hash), new(lockbox.Symbol), new(lockbox.Decimal), new(rubyyaml.Date))
)

// inventor makes up types and values.
type inventor struct{ *rand.Rand }

func (r inventor) typ(depth int) reflect.Type {
	if depth == 0 || r.IntN(4) == 0 {
		if r.IntN(3) == 0 {
			return namedTypes[r.IntN(len(namedTypes))]
		}
		return scalarTypes[r.IntN(len(scalarTypes))]
	}
	switch r.IntN(6) {
	case 0:
		return reflect.PointerTo(r.typ(depth - 1))
	case 1:
		return reflect.SliceOf(r.typ(depth - 1))
	case 2:
		return reflect.ArrayOf(r.IntN(4), r.typ(depth-1))
	case 3:
		keys := typesOf(new(string), new(int), new(word), new(uint8), new(netip.Addr), new(bool), new(upper), new(any))
		return reflect.MapOf(keys[r.IntN(len(keys))], r.typ(depth-1))
	}
	var fields []reflect.StructField
	for i := range r.IntN(4) {
		f := reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: r.typ(depth - 1)}
		f.Tag = []reflect.StructTag{"", "", `json:"renamed"`, `json:",omitempty"`, `json:",omitzero"`, `json:"-"`, `json:"f0"`}[r.IntN(7)]
		if r.IntN(12) == 0 {
			f.Name, f.PkgPath = fmt.Sprintf("f%d", i), "example.org/hidden"
		}
		fields = append(fields, f)
	}
	return reflect.StructOf(fields)
}

// fill gives v a random value: ordinary ones, limits, and what encodings stumble over.
func (r inventor) fill(v reflect.Value, depth int) {
	if depth > 6 || r.IntN(8) == 0 {
		return
	}
	v, ok := exposed(v)
	if !ok {
		return
	}
	switch known := v.Addr().Interface().(type) {
	case *time.Time:
		*known = time.Unix(r.Int64N(4e9), r.Int64N(1e9)).In(time.FixedZone("", 3600*r.IntN(5)))
		return
	case **time.Location, *regexp.Regexp, *atomic.Value, *time.Timer, *time.Location, *strings.Builder:
		return
	case *big.Int:
		known.SetString(strings.Repeat("7", 1+r.IntN(40)), 10)
		return
	case *big.Rat:
		known.SetFrac64(r.Int64(), 1+r.Int64N(99))
		return
	case *big.Float:
		known.SetFloat64([]float64{0, 1.5, 0.1, -3e300}[r.IntN(4)])
		return
	case *netip.Addr:
		*known = [...]netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("::ffff:1.2.3.4"), {}}[r.IntN(4)]
		return
	case *netip.Prefix:
		*known = [...]netip.Prefix{netip.MustParsePrefix("10.1.2.3/8"), netip.PrefixFrom(netip.MustParseAddr("::1"), 200), {}}[r.IntN(3)]
		return
	case *url.URL:
		u, _ := url.Parse("https://hook:s3cret@example.org/in?x=1")
		*known = *u
		return
	case *uuid.NullUUID:
		*known = uuid.NullUUID{UUID: uuid.New(), Valid: r.IntN(2) == 0}
		return
	}
	r.fillKind(v, depth)
}

func (r inventor) fillKind(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString([]string{"", "Ada", "caf\xe9", "naïve \u2028 <b>", "12", "\x00", "null", "\ufffd"}[r.IntN(8)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Float32, reflect.Float64:
		v.SetFloat([]float64{0, 1.5, 0.1, math.NaN(), math.Inf(1), 1e22, math.MaxFloat32, math.Copysign(0, -1), 5e-324}[r.IntN(9)])
	case reflect.Interface:
		if v.NumMethod() == 0 {
			r.fillAny(v, depth)
		} else if v.Type() == reflect.TypeFor[error]() {
			v.Set(reflect.ValueOf(errors.New("in an interface")))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.fill(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(4), 4))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			r.fill(v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			r.fill(key, depth+1)
			r.fill(value, depth+1)
			if key.Comparable() {
				v.SetMapIndex(key, value)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			r.fill(v.Field(i), depth+1)
		}
	case reflect.Complex128:
		v.SetComplex(1i)
	case reflect.Chan:
		v.Set(reflect.MakeChan(v.Type(), 1))
	default:
		n := []uint64{0, 1, 7, 1<<53 + 1, math.MaxInt64, math.MaxUint64}[r.IntN(6)]
		if v.CanInt() {
			v.SetInt(int64(n))
		} else if v.CanUint() {
			v.SetUint(n)
		}
	}
}

func (r inventor) fillAny(v reflect.Value, depth int) {
	values := []any{nil, true, "text", "caf\xe9", 1.5, 7, int64(1<<53 + 1), uint64(math.MaxUint64), float32(0.1), json.Number("1.25"),
		[]any{1, "x"}, map[string]any{"n": int64(1<<53 + 1)}, map[string]any{"f": 5.0, "l": []any{nil}}, []string{"typed"}, time.Unix(5, 6),
		math.NaN(), 1i, big.NewInt(3), lockbox.Symbol("s"), word("named"), struct{ A int }{1}, json.RawMessage(`{"a": 1}`)}
	v.Set(reflect.New(v.Type()).Elem())
	if value := values[r.IntN(len(values))]; value != nil {
		v.Set(reflect.ValueOf(value))
	}
}

// describe writes down all that a value says, for a comparison that shares
// nothing with the one of the package.
func describe(v reflect.Value, inAny bool, depth int) string {
	if !v.IsValid() || depth > 40 {
		return "nil"
	}
	if e, ok := exposed(v); ok {
		v = e
		switch known := v.Addr().Interface().(type) {
		case *time.Time:
			return "time " + known.UTC().Round(0).String()
		case *big.Int:
			return known.String()
		case *big.Rat:
			return "rat " + known.String()
		case *big.Float:
			return "float " + known.Text('p', 0)
		case *net.IP:
			return "ip " + known.String()
		case *lockbox.Decimal: // a number: 12 and 12.0 are one
			if n, finite := known.Rat(); finite {
				return "decimal " + n.String()
			}
		case *loose:
			return "loose " + strings.ToLower(known.S)
		case *json.RawMessage:
			var parsed any
			d := json.NewDecoder(strings.NewReader(string(*known)))
			d.UseNumber()
			if len(*known) == 0 || string(*known) == "null" {
				return "json null"
			}
			if err := d.Decode(&parsed); err != nil {
				return fmt.Sprintf("json %q", *known)
			}
			return "json " + describe(reflect.ValueOf(&parsed).Elem(), false, depth+1)
		}
	}
	if inAny {
		if n, ok := v.Interface().(json.Number); ok {
			r, _ := new(big.Rat).SetString(string(n))
			if r.IsInt() {
				return r.Num().String()
			}
			f, _ := r.Float64()
			return fmt.Sprint(f)
		}
		if n, ok := v.Interface().(*big.Int); ok {
			return n.String()
		}
		switch {
		case v.CanInt(), v.CanUint():
			return fmt.Sprintf("%d", v.Interface())
		case v.CanFloat():
			f := v.Float()
			if i := new(big.Float).SetFloat64(0); !math.IsNaN(f) && !math.IsInf(f, 0) && f == math.Trunc(f) {
				whole, _ := i.SetFloat64(f).Int(nil)
				return whole.String()
			}
			return fmt.Sprint(v)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%v", v.Type())
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "nil"
		}
		return "&" + describe(v.Elem(), inAny, depth+1)
	case reflect.Interface:
		return describe(v.Elem(), true, depth+1)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			b.WriteString("[" + describe(v.Index(i), false, depth+1) + "]")
		}
	case reflect.Map:
		var entries []string
		for e := v.MapRange(); e.Next(); {
			entries = append(entries, describe(e.Key(), false, depth+1)+":"+describe(e.Value(), false, depth+1))
		}
		slices.Sort(entries)
		fmt.Fprint(&b, entries)
	case reflect.Struct:
		for i := range v.NumField() {
			b.WriteString("{" + describe(v.Field(i), false, depth+1) + "}")
		}
	case reflect.String:
		fmt.Fprintf(&b, "%q", v.String())
	case reflect.Float32, reflect.Float64:
		if v.Float() == 0 {
			return b.String() + "0"
		}
		fmt.Fprint(&b, v)
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		fmt.Fprint(&b, v.Pointer())
	default:
		fmt.Fprint(&b, v)
	}
	return b.String()
}

// A type is refused, or a value is refused, or what comes out is what went in.
func TestTypes(t *testing.T) {
	t.Parallel()
	const invented, valuesEach = 600, 40
	r := inventor{rand.New(rand.NewPCG(13, rand.Uint64()))}
	types := slices.Concat(scalarTypes, namedTypes)
	for range invented {
		types = append(types, r.typ(3))
	}
	config := Config{YAML: rubyyaml.Codec{}}
	forms := map[string]func(reflect.Type) (codec, error){
		"native":  func(t reflect.Type) (codec, error) { return nativeCodec(t, "", config) },
		"json":    func(t reflect.Type) (codec, error) { return nativeCodec(t, "json", config) },
		"lockbox": func(t reflect.Type) (codec, error) { return lockboxCodec(t, "", config) },
		"hash":    func(t reflect.Type) (codec, error) { return lockboxCodec(t, "hash", config) },
		"to_s":    func(t reflect.Type) (codec, error) { return attrEncryptedCodec(t, nil) },
		"marshal": func(t reflect.Type) (codec, error) {
			return attrEncryptedCodec(t, marshalOf(&fieldSpec{options: options{marshal: true}}))
		},
	}
	distinct := make(map[reflect.Type]bool)
	for form, codecOf := range forms {
		var refusedTypes, refused, null, same int
		for _, typ := range types {
			distinct[typ] = true
			c, err := codecOf(typ)
			if err != nil {
				if !errors.Is(err, kmsencrypted.ErrConfig) {
					t.Errorf("%s of %v: %v, want ErrConfig", form, typ, err)
				}
				refusedTypes++
				continue
			}
			for range valuesEach {
				v := reflect.New(typ).Elem()
				r.fill(v, 0)
				in := describe(v, false, 0)
				if isNull(v) {
					null++
					continue
				}
				plaintext, isNull, err := c.write(nil, v)
				switch {
				case err != nil:
					refused++
					continue
				case isNull:
					null++
					continue
				}
				out, err := c.read(typ, plaintext)
				if got := describe(out, false, 0); (err != nil || got != in) && !isRubyTime(form, typ) {
					t.Errorf("%s of %v: %s\ncame back as %s, %v\nfrom %q", form, typ, in, got, err, plaintext)
					break
				}
				same++
			}
		}
		t.Logf("%s: %d types refused; of the others %d values refused, %d NULL, %d the same", form, refusedTypes, refused, null, same)
		if same < 1000 {
			t.Errorf("%s: %d values came back, want 1000", form, same)
		}
	}
	if len(distinct) < 200 {
		t.Errorf("%d types, want 200", len(distinct))
	}
	t.Logf("%d types", len(distinct))
}

// isRubyTime reports whether a column keeps microseconds, as Rails reads them.
func isRubyTime(form string, t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return form == "lockbox" && (t == timeType || t == reflect.TypeFor[sql.NullTime]() || t == reflect.TypeFor[sql.Null[time.Time]]())
}
