package vectors

import (
	"fmt"
	"math/big"
	"strconv"

	"github.com/kmsencrypted/kmsencrypted"
)

// Context converts a Ruby value to an encryption context. Values that Go's types
// cannot represent (an array, a hash with integer keys) are an error: they
// cannot be passed to this library either.
func (v Value) Context() (kmsencrypted.EncryptionContext, error) {
	switch v.Kind {
	case "", "nil":
		return nil, nil
	case "s":
		return kmsencrypted.TextContext(v.Text), nil
	case "h":
		return v.pairs()
	}
	return nil, fmt.Errorf("%w: a Ruby %s", kmsencrypted.ErrContext, v.Kind)
}

func (v Value) pairs() (kmsencrypted.OrderedContext, error) {
	pairs := kmsencrypted.OrderedContext{}
	for _, pair := range v.Pairs {
		name, value := pair[0], pair[1]
		if name.Kind != "s" && name.Kind != "sym" {
			return nil, fmt.Errorf("%w: a Ruby %s as name", kmsencrypted.ErrContext, name.Kind)
		}
		goValue, err := value.Go()
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, kmsencrypted.Pair{Name: name.Text, Value: goValue, StringName: name.Kind == "s"})
	}
	return pairs, nil
}

// Go returns the natural Go value of a Ruby value.
func (v Value) Go() (any, error) {
	switch v.Kind {
	case "nil":
		return nil, nil
	case "s":
		return v.Text, nil
	case "bool":
		return v.Bool, nil
	case "i":
		n, ok := new(big.Int).SetString(v.Text, 10)
		if !ok {
			return nil, fmt.Errorf("integer %q", v.Text)
		}
		return n, nil
	case "f":
		return strconv.ParseFloat(v.Text, 64)
	case "bin":
		return v.text()
	case "h":
		return v.pairs()
	}
	return nil, fmt.Errorf("no Go value for a Ruby %s", v.Kind)
}

// text returns a Ruby string of another encoding, transcoded to UTF-8 as Ruby
// does before it writes JSON.
func (v Value) text() (string, error) {
	if v.Enc != "ISO-8859-1" {
		return string(v.Bytes), nil
	}
	runes := make([]rune, len(v.Bytes))
	for i, b := range v.Bytes {
		runes[i] = rune(b)
	}
	return string(runes), nil
}
