package vectors

import (
	"encoding/json"
	"fmt"
)

// Value is a Ruby value with its type, as the files write it: {"s": text},
// {"sym": name}, {"i": digits}, {"h": [[key, value], …]} and so on.
type Value struct {
	Kind  string // s sym i f bool nil bin h a date time datetime decimal ip obj, or error
	Text  string // of every kind written as text; for obj its to_s
	Class string // obj only
	Bool  bool
	Bytes []byte // bin only
	Enc   string // encoding of a bin that is not binary
	Pairs [][2]Value
	List  []Value
}

// UnmarshalJSON reads one tagged value.
func (v *Value) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	*v = Value{}
	for kind, raw := range fields {
		if kind == "enc" || kind == "text" {
			continue
		}
		v.Kind = kind
		if err := v.read(kind, raw); err != nil {
			return fmt.Errorf("value %s: %w", kind, err)
		}
	}
	for name, into := range map[string]*string{"enc": &v.Enc, "text": &v.Text} {
		if raw, ok := fields[name]; ok {
			if err := json.Unmarshal(raw, into); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *Value) read(kind string, raw json.RawMessage) error {
	switch kind {
	case "nil":
		return nil
	case "bool":
		return json.Unmarshal(raw, &v.Bool)
	case "bin":
		return json.Unmarshal(raw, &v.Bytes)
	case "h":
		return json.Unmarshal(raw, &v.Pairs)
	case "a":
		return json.Unmarshal(raw, &v.List)
	case "error": // not a value but Ruby's refusal to read one
		return nil
	case "obj":
		return json.Unmarshal(raw, &v.Class)
	default:
		return json.Unmarshal(raw, &v.Text)
	}
}

// Stored is a column as stored in the database: {"text": …}, {"b64": …} or null.
type Stored struct {
	Null  bool
	Bytes []byte
}

// UnmarshalJSON reads a stored column; a bare JSON string is text as well.
func (s *Stored) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*s = Stored{Null: string(data) == "null", Bytes: []byte(text)}
		return nil
	}
	var fields struct {
		Text *string `json:"text"`
		B64  []byte  `json:"b64"`
	}
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	*s = Stored{Bytes: fields.B64}
	if fields.Text != nil {
		s.Bytes = []byte(*fields.Text)
	}
	return nil
}

// Failure is Ruby's exception if a case must fail, otherwise nil.
type Failure struct {
	Class   string `json:"class"`
	Message string `json:"message"`
}
