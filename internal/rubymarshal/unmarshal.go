package rubymarshal

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// Links let few bytes represent a very large value. The number of parts may be
// at most linkAllowance, plus linkFactor for every byte.
const (
	linkAllowance = 1 << 16
	linkFactor    = 16
)

// trustedCount is the number of items allocated before they are read: nested
// lists may each claim as many items as there are bytes left.
const trustedCount = 32

var errMalformed = fmt.Errorf("marshal: %w: no value of Ruby's Marshal 4.8", kmsencrypted.ErrMalformed)

// Unmarshal parses what Ruby's Marshal.dump wrote and, like Ruby, ignores what
// follows. It returns [kmsencrypted.ErrMalformed] for other bytes, with a
// [rubycompat.ClassError] for an object of another class. Parts of the result
// that were one object in Ruby may share memory.
func Unmarshal(data []byte) (any, error) {
	if len(data) < len(header) || data[0] != header[0] || data[1] > header[1] {
		return nil, errMalformed
	}
	d := &decoder{in: data[len(header):], limit: linkAllowance + linkFactor*len(data)}
	return d.value(0)
}

type decoder struct {
	in      []byte
	symbols []rubycompat.Symbol
	objects []object
	parts   int // number of values read so far, including those behind links
	limit   int
}

// object is a value that a link may refer to once it is complete.
type object struct {
	value    any
	parts    int
	complete bool
}

func (d *decoder) value(depth int) (any, error) {
	kind, err := d.byte()
	if err != nil {
		return nil, err
	}
	if d.parts++; depth > maxDepth || d.parts > d.limit {
		return nil, errMalformed
	}
	switch kind {
	case '0':
		return nil, nil
	case 'T':
		return true, nil
	case 'F':
		return false, nil
	case 'i':
		n, err := d.long()
		return int64(n), err
	case ':':
		return d.newSymbol(false)
	case ';':
		return d.symbolLink()
	case '@':
		return d.link()
	case 'I':
		return d.withVariables()
	case '"':
		return d.object(d.string, depth)
	case 'f':
		return d.object(d.float, depth)
	case 'l':
		return d.object(d.bignum, depth)
	case '[':
		return d.object(d.array, depth)
	case '{':
		return d.object(d.hash, depth)
	case '}':
		return d.object(d.defaultHash, depth)
	}
	return nil, d.foreign(kind)
}

// object reads a value that has an index in the table of objects. It takes the
// index before the objects inside it.
func (d *decoder) object(read func(depth int) (any, error), depth int) (any, error) {
	at, before := len(d.objects), d.parts-1
	d.objects = append(d.objects, object{})
	value, err := read(depth)
	if err != nil {
		return nil, err
	}
	d.objects[at] = object{value, d.parts - before, true}
	return value, nil
}

func (d *decoder) byte() (byte, error) {
	if len(d.in) == 0 {
		return 0, errMalformed
	}
	b := d.in[0]
	d.in = d.in[1:]
	return b, nil
}

func (d *decoder) long() (int, error) {
	first, err := d.byte()
	if err != nil {
		return 0, err
	}
	size := int(int8(first))
	switch {
	case size == 0:
		return 0, nil
	case size > 4:
		return size - 5, nil
	case size < -4:
		return size + 5, nil
	}
	n := 0
	if size < 0 {
		n, size = -1, -size
	}
	for i := range size {
		b, err := d.byte()
		if err != nil {
			return 0, err
		}
		n = n&^(0xff<<(8*i)) | int(b)<<(8*i)
	}
	return n, nil
}

// count reads the number of following items, each of at least size bytes.
func (d *decoder) count(size int) (int, error) {
	n, err := d.long()
	if err != nil || n < 0 || n > len(d.in)/size {
		return 0, errMalformed
	}
	return n, nil
}

func (d *decoder) bytes() ([]byte, error) {
	n, err := d.count(1)
	if err != nil {
		return nil, err
	}
	data := d.in[:n]
	d.in = d.in[n:]
	return data, nil
}

// newSymbol reads a symbol and, if they follow, the variables that mark it as
// not ASCII.
func (d *decoder) newSymbol(variables bool) (any, error) {
	name, err := d.bytes()
	if err != nil {
		return nil, err
	}
	s := rubycompat.Symbol(name)
	d.symbols = append(d.symbols, s)
	if !variables {
		return s, nil
	}
	if encoding, err := d.encoding(); err != nil || encoding != utf8 && encoding != usASCII {
		return nil, errMalformed
	}
	return s, nil
}

func (d *decoder) symbolLink() (any, error) {
	n, err := d.long()
	if err != nil || n < 0 || n >= len(d.symbols) {
		return nil, errMalformed
	}
	return d.symbols[n], nil
}

// symbol reads a name: a symbol in any of its forms.
func (d *decoder) symbol() (rubycompat.Symbol, error) {
	kind, err := d.byte()
	if err != nil {
		return "", err
	}
	var s any
	switch kind {
	case ':':
		s, err = d.newSymbol(false)
	case ';':
		s, err = d.symbolLink()
	default:
		return "", errMalformed
	}
	if err != nil {
		return "", err
	}
	return s.(rubycompat.Symbol), nil
}

// link reads a reference to an object. An object that is still being read would
// contain itself, which no Go value here can.
func (d *decoder) link() (any, error) {
	n, err := d.long()
	if err != nil || n < 0 || n >= len(d.objects) || !d.objects[n].complete {
		return nil, errMalformed
	}
	o := d.objects[n]
	if d.parts += o.parts; d.parts > d.limit {
		return nil, errMalformed
	}
	return o.value, nil
}

// withVariables reads a string or a symbol with an encoding.
func (d *decoder) withVariables() (any, error) {
	kind, err := d.byte()
	if err != nil {
		return nil, err
	}
	switch kind {
	case ':':
		return d.newSymbol(true)
	case '"':
		at := len(d.objects)
		d.objects = append(d.objects, object{parts: 1})
		data, err := d.bytes()
		if err != nil {
			return nil, err
		}
		encoding, err := d.encoding()
		if err != nil {
			return nil, err
		}
		var value any = String{slices.Clone(data), encoding}
		if encoding == utf8 {
			value = string(data)
		}
		d.objects[at].value, d.objects[at].complete = value, true
		return value, nil
	}
	return nil, d.foreign(kind)
}

const utf8 = "UTF-8"

// encoding reads the only variable of a plain string: E, true for UTF-8 and
// false for ASCII, or encoding and its name.
func (d *decoder) encoding() (string, error) {
	n, err := d.long()
	if err != nil || n != 1 {
		return "", errMalformed
	}
	name, err := d.symbol()
	if err != nil {
		return "", err
	}
	value, err := d.value(maxDepth)
	if err != nil {
		return "", err
	}
	flag, isFlag := value.(bool)
	text, isText := value.([]byte)
	switch {
	case name == "E" && isFlag && flag:
		return utf8, nil
	case name == "E" && isFlag:
		return usASCII, nil
	case name == "encoding" && isText && string(text) != utf8 && string(text) != usASCII:
		return string(text), nil
	}
	return "", errMalformed
}

func (d *decoder) string(int) (any, error) {
	data, err := d.bytes()
	return slices.Clone(data), err
}

func (d *decoder) float(int) (any, error) {
	data, err := d.bytes()
	if err != nil {
		return nil, err
	}
	switch text := string(data); text {
	case "nan":
		return math.NaN(), nil
	case "inf":
		return math.Inf(1), nil
	case "-inf":
		return math.Inf(-1), nil
	default:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || strings.Trim(text, "0123456789+-.eE") != "" {
			return nil, errMalformed
		}
		return f, nil
	}
}

func (d *decoder) bignum(int) (any, error) {
	sign, err := d.byte()
	if err != nil {
		return nil, err
	}
	words, err := d.count(2)
	if err != nil || sign != '+' && sign != '-' {
		return nil, errMalformed
	}
	magnitude := slices.Clone(d.in[:2*words])
	d.in = d.in[2*words:]
	slices.Reverse(magnitude)
	n := new(big.Int).SetBytes(magnitude)
	if sign == '-' {
		n.Neg(n)
	}
	return rubycompat.Integer(n), nil
}

func (d *decoder) array(depth int) (any, error) {
	n, err := d.count(1)
	if err != nil {
		return nil, err
	}
	list := make([]any, 0, min(n, trustedCount))
	for range n {
		item, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	return list, nil
}

func (d *decoder) hash(depth int) (any, error) {
	n, err := d.count(2)
	if err != nil {
		return nil, err
	}
	hash := make(rubycompat.Hash, 0, min(n, trustedCount))
	for range n {
		key, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		value, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		hash = append(hash, rubycompat.Pair{Key: key, Value: value})
	}
	return hash, nil
}

func (d *decoder) defaultHash(depth int) (any, error) {
	hash, err := d.hash(depth)
	if err != nil {
		return nil, err
	}
	value, err := d.value(depth + 1)
	return rubycompat.DefaultHash{Hash: hash.(rubycompat.Hash), Default: value}, err
}

// foreign returns the error for a kind that is not supported. Most of them begin
// with the name of their class.
func (d *decoder) foreign(kind byte) error {
	if class, ok := builtin[kind]; ok {
		return fmt.Errorf("marshal: %w: %w", kmsencrypted.ErrMalformed, &rubycompat.ClassError{Class: class})
	}
	if strings.IndexByte("oSuUCed", kind) < 0 {
		return errMalformed
	}
	class, err := d.symbol()
	if err != nil {
		return err
	}
	return fmt.Errorf("marshal: %w: %w", kmsencrypted.ErrMalformed, &rubycompat.ClassError{Class: string(class)})
}

var builtin = map[byte]string{'/': "Regexp", 'c': "Class", 'm': "Module", 'M': "Module"}
