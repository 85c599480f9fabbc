package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// model returns the model of a table that only the file describes. It builds the
// struct with the tags that a program would have written.
func (t tableConfig) model(ctx context.Context, db *sql.DB, dialect field.Dialect, box *kmsencrypted.Box, contexts []template) (*field.Model[any], error) {
	fail := func(err error) (*field.Model[any], error) {
		return nil, fmt.Errorf("table %s: %w", t.Table, err)
	}
	if t.Table == "" {
		return nil, fmt.Errorf("%w: a table without the field table", kmsencrypted.ErrConfig)
	}
	if len(t.ID) == 0 {
		t.ID = []string{"id"}
	}
	if len(t.Keys) == 0 {
		t.Keys = []keyConfig{{Column: "encrypted_kms_key"}}
	}
	existing, err := columnTypes(ctx, db, dialect, t.Table)
	if err != nil {
		return fail(err)
	}
	ids, err := idTypes(existing, t.ID)
	if err != nil {
		return fail(err)
	}
	s := structOf{}
	for i, column := range t.ID {
		s.add("ID", column, "id", ids[i])
	}
	for _, k := range t.Keys {
		s.add("Key", k.Column, options(option("name", k.Name), option("as", k.As)), reflect.TypeFor[field.Key]())
	}
	for _, c := range t.Columns {
		goType, tag, err := c.goType()
		if err != nil {
			return fail(err)
		}
		s.add("Column", c.Column, tag, goType)
	}
	if len(t.Context) > 0 { // instead of those of the versions
		contexts = []template{t.Context}
	}
	for _, context := range contexts {
		for _, column := range context.columns() {
			if _, ok := existing[column]; !ok {
				return fail(fmt.Errorf("%w: the context names the column %s, which does not exist", kmsencrypted.ErrConfig, column))
			}
			if err := s.plain(column); err != nil {
				return fail(err)
			}
		}
	}
	model, err := field.NewDynamicModel(box, reflect.StructOf(s.fields), field.Config{
		Table: t.Table, As: t.As, Name: t.Name, KeysOnly: len(t.Columns) == 0, Context: t.Context.function(),
	})
	if err != nil {
		return fail(err)
	}
	return model, nil
}

// structOf collects the fields of a struct.
type structOf struct{ fields []reflect.StructField }

func (s *structOf) add(kind, column, tag string, t reflect.Type) {
	text := fmt.Sprintf("db:%q", column)
	if tag != "" {
		text += fmt.Sprintf(" kms:%q", tag)
	}
	s.fields = append(s.fields, reflect.StructField{
		Name: fmt.Sprintf("%s%d", kind, len(s.fields)), Type: t, Tag: reflect.StructTag(text),
	})
}

// plain adds a column that a context uses.
func (s *structOf) plain(column string) error {
	for _, f := range s.fields {
		if f.Tag.Get("db") == column {
			if strings.HasPrefix(f.Name, "ID") || strings.HasPrefix(f.Name, plainPrefix) {
				return nil
			}
			return fmt.Errorf("%w: the context names the encrypted column %s", kmsencrypted.ErrConfig, column)
		}
	}
	s.add(plainPrefix, column, "context", reflect.TypeFor[sql.Null[string]]())
	return nil
}

const plainPrefix = "Plain"

func option(name, value string) string {
	if value == "" {
		return ""
	}
	return name + "=" + value
}

func options(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), ",")
}

// goTypes maps the name of a type to the Go type of a column and its tag
// options.
var goTypes = map[string]struct {
	goType reflect.Type
	tag    string
}{
	"string":   {reflect.TypeFor[field.Of[string]](), ""},
	"bytes":    {reflect.TypeFor[field.Of[[]byte]](), ""},
	"integer":  {reflect.TypeFor[field.Of[int64]](), ""},
	"float":    {reflect.TypeFor[field.Of[float64]](), ""},
	"boolean":  {reflect.TypeFor[field.Of[bool]](), ""},
	"date":     {reflect.TypeFor[field.Of[time.Time]](), "type=date"},
	"time":     {reflect.TypeFor[field.Of[time.Time]](), "type=time"},
	"datetime": {reflect.TypeFor[field.Of[time.Time]](), "type=datetime"},
	"json":     {reflect.TypeFor[field.Of[json.RawMessage]](), "type=json"},
	"part":     {reflect.TypeFor[field.Part](), ""}, // iv or salt of an attr_encrypted column
}

func (c columnConfig) goType() (reflect.Type, string, error) {
	name := c.Type
	if name == "" {
		name = "string"
	}
	known, ok := goTypes[name]
	if !ok {
		return nil, "", fmt.Errorf("%w: column %s: type %q: want string, bytes, integer, float, boolean, date, time, datetime, json or part; for other types let your own program call rotatecli.Main", kmsencrypted.ErrConfig, c.Column, c.Type)
	}
	tag := known.tag
	if strings.Contains(c.Tag, "type=") {
		tag = ""
	}
	return known.goType, options(c.Tag, tag), nil
}

// idTypes returns the types of the primary key.
func idTypes(columns map[string]string, ids []string) ([]reflect.Type, error) {
	types := make([]reflect.Type, len(ids))
	for i, id := range ids {
		name, ok := columns[id]
		if !ok {
			return nil, fmt.Errorf("%w: no column %s", kmsencrypted.ErrConfig, id)
		}
		switch upper := strings.ToUpper(name); {
		case strings.Contains(upper, "UNSIGNED") && strings.Contains(upper, "BIGINT"):
			types[i] = reflect.TypeFor[uint64]()
		case strings.Contains(upper, "INT"):
			types[i] = reflect.TypeFor[int64]()
		case strings.Contains(upper, "CHAR"), strings.Contains(upper, "TEXT"), upper == "UUID":
			types[i] = reflect.TypeFor[string]()
		default:
			return nil, fmt.Errorf("%w: primary key %s is of type %s, and only integers, texts and UUIDs are known here; let your own program call rotatecli.Main", kmsencrypted.ErrConfig, id, name)
		}
	}
	return types, nil
}

func columnTypes(ctx context.Context, db *sql.DB, dialect field.Dialect, table string) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, "SELECT * FROM "+dialect.QuotedTable(table)+" WHERE 1 = 0")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	types := make(map[string]string)
	for _, c := range columns {
		types[c.Name()] = c.DatabaseTypeName()
	}
	return types, nil
}

// template describes an encryption context: texts that may contain {model_name},
// {model_id} and {column}. Nil means none.
type template map[string]string

// errPlaceholder reports a context that needs a value the record does not have.
var errPlaceholder = errors.New("placeholder of a context")

func (t template) columns() (all []string) {
	for _, text := range t {
		for rest := text; ; {
			_, after, found := strings.Cut(rest, "{")
			name, next, closed := strings.Cut(after, "}")
			if !found || !closed {
				break
			}
			if name != "model_name" && name != "model_id" && !slices.Contains(all, name) {
				all = append(all, name)
			}
			rest = next
		}
	}
	slices.Sort(all)
	return all
}

// function returns the template as a function for the library.
func (t template) function() kmsencrypted.ContextFunc {
	if len(t) == 0 {
		return nil
	}
	return func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		ec := make(kmsencrypted.Context, len(t))
		for name, text := range t {
			value, err := fill(text, s)
			if err != nil {
				return nil, fmt.Errorf("%w: %s: %w", kmsencrypted.ErrContext, name, err)
			}
			ec[name] = value
		}
		return ec, nil
	}
}

func fill(text string, s kmsencrypted.Subject) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "{")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed {
			return "", fmt.Errorf("%w: a { without }", errPlaceholder)
		}
		value, err := placeholder(name, s)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		text = rest
	}
}

func placeholder(name string, s kmsencrypted.Subject) (string, error) {
	switch name {
	case "model_name":
		return s.Model, nil
	case "model_id":
		if len(s.ID) != 1 {
			return "", fmt.Errorf("%w: {model_id} of a primary key with %d columns", errPlaceholder, len(s.ID))
		}
		return s.ID[0], nil
	}
	row := reflect.ValueOf(s.Record).Elem()
	for i := range row.NumField() {
		if row.Type().Field(i).Tag.Get("db") != name {
			continue
		}
		switch v := row.Field(i).Interface().(type) {
		case sql.Null[string]:
			if v.Valid {
				return v.V, nil
			}
			return "", fmt.Errorf("%w: column %s is NULL", errPlaceholder, name)
		default:
			return fmt.Sprint(v), nil
		}
	}
	return "", fmt.Errorf("%w: no column %s", errPlaceholder, name)
}
