package vectors

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// decode decodes a file into a struct. A list of cases may hold some that a newer writer
// added: those that do not decode, and those without any field that the test knows, are
// left out and counted.
func decode(data []byte, v any) (unknown int, err error) {
	var sections map[string]json.RawMessage
	file := reflect.ValueOf(v).Elem()
	if file.Kind() != reflect.Struct || json.Unmarshal(data, &sections) != nil {
		return 0, json.Unmarshal(data, v)
	}
	for f := range file.Type().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		if f.Type.Kind() != reflect.Slice || f.Type.Elem().Kind() != reflect.Struct {
			continue
		}
		for section, raw := range sections {
			var cases []json.RawMessage
			if !strings.EqualFold(section, name) || json.Unmarshal(raw, &cases) != nil {
				continue
			}
			known := slices.DeleteFunc(slices.Clone(cases), func(c json.RawMessage) bool { return !isKnown(c, f.Type.Elem()) })
			unknown += len(cases) - len(known)
			if sections[section], err = json.Marshal(known); err != nil {
				return unknown, err
			}
		}
	}
	if data, err = json.Marshal(sections); err != nil {
		return unknown, err
	}
	return unknown, json.Unmarshal(data, v)
}

// isKnown reports whether a case decodes and says more than its name.
func isKnown(c json.RawMessage, t reflect.Type) bool {
	v := reflect.New(t)
	if json.Unmarshal(c, v.Interface()) != nil {
		return false
	}
	for _, name := range []string{"Name", "Case", "Config"} {
		if f := v.Elem().FieldByName(name); f.IsValid() {
			f.SetZero()
		}
	}
	return !v.Elem().IsZero()
}
