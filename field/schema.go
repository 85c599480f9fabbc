package field

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// schema is what NewModel reads from a struct type.
type schema struct {
	table   string // the name that ciphertexts are bound to
	name    string // of the model, in contexts
	config  Config
	ids     []*idSpec
	keys    []*keySpec
	indexes []*indexSpec
	master  masterCipher // of the columns under Lockbox's master key

	// companions are the fields in plain that contexts use.
	companions []*idSpec
	bound      []*idSpec // fields whose values a row must have for its record to open

	replacing    []*fieldSpec // fields that replace others: migrating= and migrated=
	ignoringCase []*fieldSpec // fields that are the lower case of others: ignore_case=

	plain   []*idSpec        // the application's own columns
	managed map[string][]int // keys, fields, parts and indexes by column

	pointers [][]int // to embedded structs
}

// idSpec is a column of the primary key.
type idSpec struct {
	column string
	index  []int
}

// keySpec is a key column with the columns sealed under it.
type keySpec struct {
	name   string // "" for the first key
	column string
	bound  string // the column's name in the binding
	index  []int
	fields []*fieldSpec
	target int // the version that it is written at; 0 is that of the Box
	// isMaster means keys of the application, without a key column: Lockbox's master key,
	// or those of ActiveRecord Encryption.
	isMaster bool
}

// fieldSpec is an encrypted column.
type fieldSpec struct {
	goName string
	column string
	bound  string // the column's name in the associated data
	index  []int
	options
	native     nativeColumn
	rubyColumn rubyColumn // nil without a Ruby tag
	variant    string     // of rubyColumn
	iv, salt   *partSpec  // of attr_encrypted
	associated []int      // the field in ad=
	goType     reflect.Type
	mutable    bool       // a value can be changed in place
	oldField   []int      // the field in migrating= or migrated=
	oldColumn  string     // its column
	original   *fieldSpec // the field in ignore_case=
}

// builder collects the parts of a schema and all errors.
type builder struct {
	schema
	columns  map[string]string  // the Go field of each column
	located  map[string]located // every field by its Go name
	fields   []*fieldSpec
	parts    []*partSpec
	mistakes []error
}

func (b *builder) mistake(where, format string, args ...any) {
	b.mistakes = append(b.mistakes, fmt.Errorf("%w: %s: %w", kmsencrypted.ErrConfig, where, fmt.Errorf(format, args...)))
}

var (
	holderType = reflect.TypeFor[holder]()
	keyType    = reflect.TypeFor[Key]()
	partType   = reflect.TypeFor[Part]()
	indexType  = reflect.TypeFor[Index]()
)

// newSchema reads a struct type and returns all errors at once.
func newSchema(t reflect.Type, config Config) (*schema, error) {
	b := &builder{columns: make(map[string]string), located: make(map[string]located)}
	b.managed = make(map[string][]int)
	b.config = config
	b.table, b.name = config.Table, config.Name
	if config.As != "" {
		b.table = config.As
	}
	if b.name == "" {
		b.name = b.table
	}
	if config.Table == "" {
		b.mistake(t.String(), "no table in its Config")
	}
	if t.Kind() != reflect.Struct {
		b.mistake(t.String(), "a model is made of a struct")
	} else {
		b.walk(t, place{within: []reflect.Type{t}})
		b.assign(t)
	}
	if len(b.mistakes) > 0 {
		return nil, errors.Join(b.mistakes...)
	}
	return &b.schema, nil
}

// walk visits the fields of a struct and of the structs embedded in it.
func (b *builder) walk(t reflect.Type, at place) {
	for f := range t.Fields() {
		inner, of, ok := at.embedded(f)
		switch {
		case !ok:
			b.visit(f, at)
		case f.Type.Kind() == reflect.Pointer && !f.IsExported():
			if embedsColumns(of) {
				b.mistake(at.path+f.Name, "embedded by a pointer, and not exported")
			}
		default:
			if f.Type.Kind() == reflect.Pointer {
				b.pointers = append(b.pointers, inner.index)
			}
			b.walk(of, inner)
		}
	}
}

// visit adds one field of the struct.
func (b *builder) visit(f reflect.StructField, at place) {
	index, where := append(slices.Clone(at.index), f.Index...), at.path+f.Name
	isKey, isPart, isHolder := f.Type == keyType, f.Type == partType, reflect.PointerTo(f.Type).Implements(holderType)
	tag, hasTag := f.Tag.Lookup("kms")
	o, err := parseTag(tag)
	if err != nil {
		b.mistakes = append(b.mistakes, fmt.Errorf("%s: %w", where, err))
		return
	}
	column := b.columnName(f)
	if column == "" && f.Name == "ID" && strings.EqualFold(f.Tag.Get("gorm"), "primarykey") {
		column = "id" // of gorm.Model, which has no tag of ours
	}
	if column != "" {
		column = at.prefix + column
	}
	if column == "id" && !isColumn(f.Type) && f.IsExported() {
		o.id = true
	}
	b.locate(f, at, column)
	if !isColumn(f.Type) && !o.id {
		if hasTag && (o != options{context: true}) {
			b.mistake(where, "a kms tag on a %v, which is neither encrypted nor marked id", f.Type)
		}
		if column != "" && f.IsExported() {
			b.plain = append(b.plain, &idSpec{column: column, index: index})
		}
		if o.context {
			b.addCompanion(f, index, column, where)
		}
		return
	}
	switch {
	case !f.IsExported():
		b.mistake(where, "not exported")
		return
	case column == "":
		b.mistake(where, "no column: it needs a %s tag", b.config.columnTag())
		return
	case b.columns[column] != "":
		b.mistake(where, "column %s is %s already", column, b.columns[column])
		return
	}
	b.columns[column] = where
	if isColumn(f.Type) {
		b.managed[column] = index
	}
	switch {
	case isKey:
		b.addKey(index, column, o, where)
	case isPart:
		b.addPart(index, column, o, where)
	case f.Type == indexType:
		b.addIndex(index, column, o, at.scope+f.Name, where)
	case isHolder:
		b.addField(f, index, column, o, at.scope+f.Name, where)
	default:
		b.addID(f, index, column, where)
	}
}

// addCompanion adds a plain column that contexts use. A database must recognise
// its value, so it cannot be a time or a fraction.
func (b *builder) addCompanion(f reflect.StructField, index []int, column, where string) {
	t := indirectType(f.Type)
	switch {
	case column == "" || !f.IsExported():
		b.mistake(where, "a column that contexts are made of has no column")
	case t == reflect.TypeFor[time.Time](), t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		b.mistake(where, "contexts made of a %v: a database does not find it again", f.Type)
	default:
		b.companions = append(b.companions, &idSpec{column: column, index: index})
	}
}

func (b *builder) addKey(index []int, column string, o options, where string) {
	if (o != options{name: o.name, as: o.as}) {
		b.mistake(where, "a key takes the options name and as only")
	}
	bound := or(o.as, column)
	for _, k := range b.keys {
		switch {
		case k.name == o.name:
			b.mistake(where, "a second key named %q: give it a name=", o.name)
			return
		case k.bound == bound: // either would open in the other's column
			b.mistake(where, "another key is bound as %s", bound)
			return
		}
	}
	b.keys = append(b.keys, &keySpec{name: o.name, column: column, bound: bound, index: index})
}

func (b *builder) addField(f reflect.StructField, index []int, column string, o options, goName, where string) {
	s := &fieldSpec{goName: goName, column: column, bound: or(o.as, column), index: index, options: o}
	if o.id || o.context || o.name != "" {
		b.mistake(where, "the options id, context and name do not go with an encrypted column")
	}
	if why := o.misplaced(); why != "" {
		b.mistake(where, "%s", why)
	}
	t := reflect.New(f.Type).Interface().(holder).valueType()
	s.goType, s.mutable = t, isMutable(t)
	var err error
	if s.native, err = newNativeColumn(b.table, s, t, b.config); err != nil {
		b.mistakes = append(b.mistakes, fmt.Errorf("%s: %w", where, err))
	}
	if s.rubyColumn, err = newRubyColumn(&b.schema, s, reflect.New(f.Type).Interface().(holder)); err != nil {
		b.mistakes = append(b.mistakes, fmt.Errorf("%s: %w", where, err))
	} else if s.rubyColumn != nil {
		s.variant = s.rubyColumn.variant()
	}
	if s.master && (s.ruby == attrEncryptedForm || s.ruby == "" || s.key != "") {
		b.mistake(where, "master and activerecord go without key=, and master with lockbox")
	}
	b.fields = append(b.fields, s)
}

func (b *builder) addPart(index []int, column string, o options, where string) {
	if (o != options{of: o.of, name: o.name}) {
		b.mistake(where, "a part takes the options of and name only")
	}
	p := &partSpec{column: column, index: index, of: o.of, kind: o.name}
	for _, kind := range []string{"iv", "salt"} {
		if of, ok := strings.CutSuffix(column, "_"+kind); ok && p.kind == "" && p.of == "" {
			p.of, p.kind = of, kind
		}
	}
	if p.kind != "iv" && p.kind != "salt" || p.of == "" {
		b.mistake(where, "whose iv or salt is it? its column ends in _iv or _salt, or the tag says of=COLUMN,name=iv")
	}
	b.parts = append(b.parts, p)
}

func (b *builder) addID(f reflect.StructField, index []int, column, where string) {
	if !idType(f.Type) {
		b.mistake(where, "a primary key of type %v: it must be an integer, text or a TextMarshaler such as a UUID, and no time", f.Type)
	}
	b.ids = append(b.ids, &idSpec{column: column, index: index})
}

// assign assigns each field to its key.
func (b *builder) assign(t reflect.Type) {
	master := &keySpec{isMaster: true}
	for _, f := range b.fields {
		if f.master {
			master.fields = append(master.fields, f)
			continue
		}
		i := slices.IndexFunc(b.keys, func(k *keySpec) bool { return k.name == f.key })
		if i < 0 {
			b.mistake(f.goName, "no field.Key named %q in %v", f.key, t)
			continue
		}
		b.keys[i].fields = append(b.keys[i].fields, f)
	}
	for _, k := range b.keys {
		if len(k.fields) == 0 && !b.config.KeysOnly && !b.config.Files {
			b.mistake(k.column, "no field under this key")
		}
		names := make(map[string]bool)
		for _, f := range k.fields {
			if names[f.bound] {
				b.mistake(f.goName, "another field is bound as %s", f.bound)
			}
			names[f.bound] = true
		}
	}
	switch {
	case !b.config.KeysOnly && !b.config.Files && len(b.fields) == 0:
		b.mistake(t.String(), "no encrypted field")
	case b.config.KeysOnly && len(b.fields) > 0:
		b.mistake(t.String(), "KeysOnly, and it has encrypted fields")
	case b.config.KeysOnly && len(b.keys) == 0:
		b.mistake(t.String(), "KeysOnly, and it has no field.Key")
	}
	b.assignParts()
	b.assignIndexes(t)
	b.assignMigrating(t)
	b.assignAssociated()
	b.assignIgnoringCase(t)
	b.assignSchemes()
	b.assignKeyVersions(t)
	b.findBound()
	if len(master.fields) > 0 && len(b.mistakes) == 0 {
		b.keys = append(b.keys, master)
		var err error
		if b.master, err = newMasterCipher(&b.schema, master.fields); err != nil {
			b.mistakes = append(b.mistakes, err)
		}
	}
}

// assignKeyVersions finds the keys of Config.KeyVersions.
func (b *builder) assignKeyVersions(t reflect.Type) {
	for name, version := range b.config.KeyVersions {
		i := slices.IndexFunc(b.keys, func(k *keySpec) bool { return k.name == name })
		if i < 0 {
			b.mistake("Config.KeyVersions", "no field.Key named %q in %v", name, t)
			continue
		}
		b.keys[i].target = version
	}
}

// assignParts assigns each iv and salt to its field.
func (b *builder) assignParts() {
	for _, p := range b.parts {
		i := slices.IndexFunc(b.fields, func(f *fieldSpec) bool { return f.column == p.of && f.ruby == attrEncryptedForm })
		if i < 0 {
			b.mistake(p.column, "no attr_encrypted column %s that it is the %s of", p.of, p.kind)
			continue
		}
		if p.kind == "iv" {
			b.fields[i].iv = p
		} else {
			b.fields[i].salt = p
		}
	}
	for _, f := range b.fields {
		if needs, ok := f.rubyColumn.(interface{ parts() (iv, salt bool) }); ok {
			iv, salt := needs.parts()
			if iv && f.iv == nil || salt && f.salt == nil {
				b.mistake(f.goName, "its mode needs a field.Part for each of iv: %t, salt: %t", iv, salt)
			}
		}
	}
}

// fieldAt returns the encrypted field at an index, or nil.
func (b *builder) fieldAt(index []int) *fieldSpec {
	i := slices.IndexFunc(b.fields, func(f *fieldSpec) bool { return slices.Equal(f.index, index) })
	if i < 0 {
		return nil
	}
	return b.fields[i]
}

// assignAssociated finds the fields in the tags ad=.
func (b *builder) assignAssociated() {
	for _, f := range b.fields {
		if f.ad == "" {
			continue
		}
		named, ok := b.find(f.goName, f.ad)
		if !ok || f.ruby != lockboxForm {
			b.mistake(f.goName, "ad=%s names a field of the struct, for a lockbox column", f.ad)
			continue
		}
		f.associated = named.index
	}
}

// isColumn reports whether a type is one of this package's columns.
func isColumn(t reflect.Type) bool {
	return t == keyType || t == partType || t == indexType || reflect.PointerTo(t).Implements(holderType)
}

func (b *builder) columnName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get(b.config.columnTag()), ",") // the library's options follow
	if name == "-" {
		return ""
	}
	return name
}

// embedsColumns reports whether a struct type holds a field of this package.
func embedsColumns(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	for f := range t.Fields() {
		if isColumn(f.Type) {
			return true
		}
	}
	return false
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
