package starter

import (
	"fmt"
	"go/token"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// Choice is what somebody wants.
type Choice struct {
	Dialect field.Dialect
	Table   Table
	Encrypt []string          // columns, of the table or new ones of type text
	Find    map[string]string // those to find a row by, with the expression of the index or ""
	Key     string            // id of the key
	DSNEnv  string            // environment variable with the DSN
	Package string            // of the records
	Module  string            // of the program, for the import of the records; empty if unknown
	Tool    string            // golang-migrate or goose
	Now     time.Time         // version of the migration
}

// Field is a field of the record.
type Field struct {
	Name, Type, Column, Tag, Comment string
	imports                          string
	is                               reflect.Type
}

// Plan is a choice with everything that follows from it.
type Plan struct {
	Choice
	Record, Records string // names in Go: Customer, Customers
	Fields          []Field
	Encrypted       []Field // those of a ciphertext
	Indexes         []Field
	Old             []string // columns with plaintext, until it is encrypted
	Definitions     []string // of new columns
	Constraint      string
}

// NewPlan checks a choice. The error is [kmsencrypted.ErrConfig] for a table, column or name
// that cannot be used.
func NewPlan(c Choice) (*Plan, error) {
	p := &Plan{Choice: c, Records: goName(c.Table.Name)}
	p.Record = singular(p.Records)
	if len(c.Encrypt) == 0 {
		return nil, mistake("no column to encrypt")
	}
	if !token.IsIdentifier(c.Package) {
		return nil, mistake("%q is no name of a package", c.Package)
	}
	for name := range c.Find {
		if !slices.Contains(c.Encrypt, name) {
			return nil, mistake("column %s is not encrypted, so it needs no blind index", name)
		}
	}
	p.addIDs()
	p.add(Field{Name: "Key", Type: "field.Key", Column: "encrypted_kms_key", Comment: "wrapped data key of the row", is: reflect.TypeFor[field.Key]()})
	for _, name := range c.Encrypt {
		if err := p.encrypt(name); err != nil {
			return nil, err
		}
	}
	p.addPlain()
	if err := p.checkNames(); err != nil {
		return nil, err
	}
	return p, p.describe()
}

// addIDs adds the primary key.
func (p *Plan) addIDs() {
	for _, c := range p.Table.Columns {
		if c.Primary {
			p.addColumn(c, Field{Name: goName(c.Name)}, false)
		}
	}
}

// addPlain adds the columns that stay as they are.
func (p *Plan) addPlain() {
	for _, c := range p.Table.Columns {
		if !c.Primary && !slices.Contains(p.Encrypt, c.Name) {
			p.addColumn(c, Field{Name: goName(c.Name)}, !c.NotNull)
		}
	}
}

// addColumn adds a field with plaintext.
func (p *Plan) addColumn(c Column, f Field, null bool) {
	t := goTypeOf(c)
	f.Column, f.imports = c.Name, t.imports
	f.Type, f.is = t.of(t.plain, null)
	p.add(f)
}

// encrypt adds an encrypted field, with the plaintext that it replaces and its index.
func (p *Plan) encrypt(name string) error {
	existing, exists := p.Table.Column(name)
	if existing.Primary {
		return mistake("column %s is part of the primary key: a row is found and bound by it, so it cannot be encrypted", name)
	}
	if !exists {
		existing = Column{Name: name, Type: "text"}
	}
	t := goTypeOf(existing)
	text, is := t.of(t.sealed, !existing.NotNull)
	sealed := Field{Name: goName(name), Type: "field.Of[" + text + "]", Column: name + "_ciphertext", Tag: t.tag, imports: t.imports, is: is}
	if exists {
		old := Field{Name: "Old" + goName(name), Comment: "plaintext, which is read and written until docs/database.md says otherwise"}
		p.addColumn(existing, old, !existing.NotNull)
		sealed.Tag = strings.TrimPrefix(sealed.Tag+",migrating="+old.Name, ",")
		p.Old = append(p.Old, name)
	}
	p.add(sealed)
	p.Encrypted = append(p.Encrypted, sealed)
	if expression, ok := p.Find[name]; ok {
		index := Field{Name: sealed.Name + "Index", Type: "field.Index", Column: name + "_bidx", Tag: "of=" + sealed.Name, is: reflect.TypeFor[field.Index]()}
		if expression != "" {
			index.Tag += ",expression=" + expression
		}
		p.add(index)
		p.Indexes = append(p.Indexes, index)
	}
	return nil
}

func (p *Plan) add(f Field) { p.Fields = append(p.Fields, f) }

// checkNames refuses a table in which a new column is taken, and names that Go does not have.
func (p *Plan) checkNames() error {
	fields := make(map[string]bool)
	for _, f := range p.Fields {
		if !token.IsIdentifier(f.Name) || !token.IsExported(f.Name) || fields[f.Name] {
			return mistake("column %s has no name of its own in Go", f.Column)
		}
		fields[f.Name] = true
	}
	if !token.IsIdentifier(p.Record) || !token.IsExported(p.Record) || p.Record == p.Records {
		return mistake("table %s has no name in Go", p.Table.Name)
	}
	added := append([]Field{{Column: "encrypted_kms_key"}}, append(p.Encrypted, p.Indexes...)...)
	for _, f := range added {
		if _, taken := p.Table.Column(f.Column); taken {
			return mistake("table %s has a column %s already", p.Table.Name, f.Column)
		}
	}
	return nil
}

// describe asks the model that the program will have for the SQL of its columns. So what is
// written for the database is what the struct needs, and the struct is known to be one.
func (p *Plan) describe() error {
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		return err
	}
	master, err := blindindex.NewMasterKey(make([]byte, blindindex.KeySize))
	if err != nil {
		return err
	}
	var fields []reflect.StructField
	for _, f := range p.Fields {
		fields = append(fields, reflect.StructField{Name: f.Name, Type: f.is, Tag: reflect.StructTag(f.tags())})
	}
	m, err := field.NewDynamicModel(box, reflect.StructOf(fields), field.Config{Table: p.Table.Name, IndexKey: master})
	if err != nil {
		return err
	}
	if p.Definitions, err = m.DDL(p.Dialect); err != nil {
		return err
	}
	p.Constraint, err = m.CheckConstraint(p.Dialect)
	return err
}

// tags returns the tags of a struct's field.
func (f Field) tags() string {
	text := fmt.Sprintf("db:%q", f.Column)
	if f.Tag != "" {
		text += fmt.Sprintf(" kms:%q", f.Tag)
	}
	return text
}

// initialisms are the words that Go writes in capitals.
var initialisms = map[string]string{"id": "ID", "url": "URL", "ip": "IP", "iban": "IBAN", "ssn": "SSN", "uuid": "UUID", "vat": "VAT", "api": "API", "dob": "DOB"}

// goName returns the name of a column in Go: born_on is BornOn.
func goName(column string) string {
	var b strings.Builder
	for _, word := range strings.FieldsFunc(column, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if known, ok := initialisms[strings.ToLower(word)]; ok {
			b.WriteString(known)
			continue
		}
		letters := []rune(word)
		letters[0] = unicode.ToUpper(letters[0])
		b.WriteString(string(letters))
	}
	return b.String()
}

// singular returns the name of one record of a table.
func singular(records string) string {
	switch {
	case strings.HasSuffix(records, "ies"):
		return strings.TrimSuffix(records, "ies") + "y"
	case strings.HasSuffix(records, "sses"), strings.HasSuffix(records, "xes"), strings.HasSuffix(records, "ches"):
		return strings.TrimSuffix(records, "es")
	case strings.HasSuffix(records, "s") && !strings.HasSuffix(records, "ss"):
		return strings.TrimSuffix(records, "s")
	}
	return records + "Record"
}

func mistake(format string, args ...any) error {
	return fmt.Errorf("%w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}
