package kmsgorm

import (
	"crypto/sha256"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqlscan"
)

// guardName is a clause after all others. GORM builds it when the statement is
// complete and not yet sent. It adds nothing to the statement; building it inspects
// the statement.
const guardName = "kmsencrypted"

// guard puts the clause into a statement.
func (p *Plugin) guard(db *gorm.DB) {
	stmt := db.Statement
	if _, own := db.Get(settingOwn); own {
		delete(stmt.Clauses, guardName)
		return
	}
	if stmt.SQL.Len() > 0 { // the program's text, perhaps with a subquery
		if err := refused(stmt.Vars); err != nil {
			_ = db.AddError(err)
		}
		return
	}
	stmt.Clauses[guardName] = clause.Clause{Builder: func(_ clause.Clause, builder clause.Builder) {
		if stmt, ok := builder.(*gorm.Statement); ok {
			p.look(stmt)
		}
	}}
	if !slices.Contains(stmt.BuildClauses, guardName) {
		stmt.BuildClauses = append(slices.Clip(stmt.BuildClauses), guardName)
	}
}

// refusal is put into the variables of a refused subquery. GORM drops the error of
// a subquery and would continue without it.
type refusal struct{ error }

func refused(vars []any) error {
	for _, v := range vars {
		if r, ok := v.(refusal); ok {
			return r.error
		}
	}
	return nil
}

// look refuses a statement with a plaintext for an encrypted column, and removes its
// text and values so that GORM cannot log them.
func (p *Plugin) look(stmt *gorm.Statement) {
	err := p.refusalOf(stmt)
	if err == nil {
		text := strings.TrimSuffix(stmt.SQL.String(), " ") // before this clause
		stmt.SQL.Reset()
		stmt.SQL.WriteString(text)
		return
	}
	_ = stmt.AddError(err)
	stmt.SQL.Reset()
	stmt.Vars = []any{refusal{err}}
}

func (p *Plugin) refusalOf(stmt *gorm.Statement) error {
	if err := refused(stmt.Vars); err != nil {
		return err
	}
	for _, v := range stmt.Vars {
		if !isScalar(v) && hasPlaintext(reflect.ValueOf(v), 0) {
			return p.plaintext(stmt, "")
		}
	}
	for name, c := range stmt.Clauses {
		if name != guardName && hasPlaintext(reflect.ValueOf(c.Expression), 0) {
			return p.plaintext(stmt, "")
		}
	}
	for _, join := range stmt.Joins {
		if hasPlaintext(reflect.ValueOf(join.On), 0) || hasPlaintext(reflect.ValueOf(join.Conds), 0) {
			return p.plaintext(stmt, "")
		}
	}
	if column := p.compared(stmt); column != "" {
		return p.plaintext(stmt, column)
	}
	return p.mapped(stmt)
}

// mapped refuses a query of all columns of a table by its name into maps.
func (p *Plugin) mapped(stmt *gorm.Statement) error {
	if _, isQuery := stmt.Clauses["SELECT"]; !isQuery || stmt.Schema != nil || stmt.Dest == nil || elemType(reflect.TypeOf(stmt.Dest)).Kind() != reflect.Map {
		return nil
	}
	t := p.tableOf(stmt)
	if t == nil {
		return nil
	}
	if column := t.selected(stmt, true); column != "" {
		return t.refused("query", column, kmsencrypted.ErrNotOpened, readIntoRecord)
	}
	return nil
}

func (p *Plugin) plaintext(stmt *gorm.Statement, column string) error {
	return &kmsencrypted.Error{Op: "query", Record: stmt.Table, Column: column, Err: kmsencrypted.ErrUnsealed,
		Cause: errors.New("an encrypted column cannot be searched: use a blind index and kmsgorm.Matches")}
}

// compared returns the encrypted column that a statement compares with a plaintext.
func (p *Plugin) compared(stmt *gorm.Statement) string {
	if len(stmt.Vars) == 0 {
		return ""
	}
	for _, c := range p.comparisons(stmt.SQL.String(), stmt.DB.Dialector.Name()) {
		for _, i := range c.placeholders {
			if i >= len(stmt.Vars) || i < 0 || !isStored(stmt.Vars[i]) {
				return c.column
			}
		}
	}
	return ""
}

// comparison is an encrypted column and the variables that a statement compares it with.
type comparison struct {
	column       string
	placeholders []int
}

// seen are the comparisons of statements with encrypted columns, which depend on nothing
// but their text. A program has few texts. It keeps hashes of them, because a text may
// have a value in it.
type seen struct {
	mu     sync.RWMutex
	byText map[seenText][]comparison
}

type seenText struct {
	dialect string
	hash    [sha256.Size]byte
}

// maxSeen limits the texts that are remembered, for a program that writes values into
// its statements.
const maxSeen = 1000

func (p *Plugin) comparisons(sql, dialect string) []comparison {
	text := seenText{dialect, sha256.Sum256([]byte(sql))}
	p.seen.mu.RLock()
	list, known := p.seen.byText[text]
	p.seen.mu.RUnlock()
	if known {
		return list
	}
	if p.mentions(sql) {
		list = p.parse(sql, dialect)
	}
	p.seen.mu.Lock()
	defer p.seen.mu.Unlock()
	if p.seen.byText == nil || len(p.seen.byText) >= maxSeen {
		p.seen.byText = make(map[seenText][]comparison)
	}
	p.seen.byText[text] = list
	return list
}

func (p *Plugin) parse(sql, dialect string) (list []comparison) {
	parsed := sqlscan.Parse(sql, sqlscan.Options{Numbered: dialect == "postgres" || dialect == "sqlserver", MySQL: dialect == "mysql"})
	for _, c := range parsed.Compared {
		if len(c.Placeholders) == 0 {
			continue
		}
		for _, n := range c.Names {
			if column := p.secretIn(parsed, n); column != "" {
				list = append(list, comparison{column, c.Placeholders})
			}
		}
	}
	return list
}

// mentions is a quick search for any of the tables and any of their columns.
func (p *Plugin) mentions(sql string) bool {
	sql = strings.ToLower(sql)
	for _, t := range p.tables {
		if !strings.Contains(sql, plainName(t.name)) {
			continue
		}
		for _, column := range t.secret {
			if strings.Contains(sql, strings.ToLower(column)) || strings.Contains(sql, strings.ToLower(t.fields[column].Name)) {
				return true
			}
		}
	}
	return false
}

// secretIn returns the encrypted column that a name in a statement refers to.
func (p *Plugin) secretIn(parsed *sqlscan.Statement, n sqlscan.Name) string {
	table, isTable := parsed.Tables[strings.ToLower(n.Table)]
	n.Column = n.Column[strings.LastIndex(n.Column, "__")+1:] // GORM's name for a column of a join
	n.Column = strings.TrimPrefix(n.Column, "_")
	for _, t := range p.tables {
		own := plainName(t.name)
		if !parsed.Mentioned[own] || isTable && table != own {
			continue
		}
		if column := t.managed(n.Column); t.isSecret(column) {
			return column
		}
	}
	return ""
}

// isScalar reports whether a value is one of the types that most are, in which nothing
// is to be found.
func isScalar(v any) bool {
	switch v.(type) {
	case nil, string, []byte, bool, int, int64, float64, time.Time:
		return true
	}
	return false
}

// hasPlaintext looks for a field that was set and not sealed, in any value that a
// program may pass to GORM. It also refuses types derived from a field type.
func hasPlaintext(v reflect.Value, depth int) bool {
	for v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() || depth > deepest {
		return false
	}
	switch c := contentOf(v.Type()); {
	case c == nothing:
		return false
	case c == derived:
		return true
	case c == reporter && v.CanInterface() && (v.Kind() != reflect.Pointer || !v.IsNil()):
		return isField(v.Type()) && v.Interface().(setReporter).IsSet()
	}
	switch v.Kind() {
	case reflect.Pointer:
		return hasPlaintext(v.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if hasPlaintext(v.Index(i), depth+1) {
				return true
			}
		}
	case reflect.Struct:
		if v.Type().PkgPath() != clausePackage {
			return false
		}
		for i := range v.NumField() {
			if hasPlaintext(v.Field(i), depth+1) {
				return true
			}
		}
	}
	return false
}

const deepest = 20 // values in values that hasPlaintext looks into

// setReporter is a field, or another type that reports whether it was set.
type setReporter interface{ IsSet() bool }

// content is what hasPlaintext may find in values of a type.
type content uint8

const (
	nothing   content = iota // also *gorm.DB: it is checked as a statement of its own
	something                // in what it holds or points to
	reporter                 // it is a setReporter
	derived                  // a type derived from one of package field
)

// contents are the results of contentOf, by type: a program has few, and a statement of
// a thousand records has thousands of values.
var contents sync.Map

func contentOf(t reflect.Type) content {
	if c, ok := contents.Load(t); ok {
		return c.(content)
	}
	c := contentIn(t, 0)
	contents.Store(t, c)
	return c
}

func contentIn(t reflect.Type, depth int) content {
	switch {
	case t == reflect.TypeFor[*gorm.DB](), t == reflect.TypeFor[*gorm.Statement]():
		return nothing
	case t.Implements(reflect.TypeFor[setReporter]()):
		return reporter
	case depth > deepest:
		return something
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface:
		return something
	case reflect.Slice, reflect.Array:
		return min(contentIn(t.Elem(), depth+1), something)
	case reflect.Struct:
		if isDerived(t) {
			return derived
		}
		if t.PkgPath() != clausePackage {
			return nothing
		}
		for f := range t.Fields() {
			if contentIn(f.Type, depth+1) != nothing {
				return something
			}
		}
	}
	return nothing
}

var (
	clausePackage = reflect.TypeFor[clause.Expr]().PkgPath()
	redacted      = reflect.TypeFor[field.Of[string]]().Field(0).Type
)

// isField reports whether a type is a field or a pointer to one.
func isField(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath() == keyType.PkgPath()
}

// isDerived reports whether a type was derived from one of package field: it has its
// content but not its methods.
func isDerived(t reflect.Type) bool {
	return t != keyType && t.NumField() > 1 && t.Field(0).Type == redacted && t.PkgPath() != keyType.PkgPath()
}
