package kmsbun

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqlscan"
)

// guard is a query hook that looks at each statement before it is sent. bun writes the
// arguments into the text, so the text shows all that the database would be given, also
// by maps, other structs and SQL of the program.
type guard struct{ *plugin }

// BeforeQuery implements [bun.QueryHook]. It refuses a statement by a context that has
// ended, with the refusal for its error, and takes its text from the other hooks.
func (g guard) BeforeQuery(ctx context.Context, event *bun.QueryEvent) context.Context {
	err := g.look(event)
	if err == nil {
		return ctx
	}
	const text = "-- refused: see the error"
	event.Query, event.QueryTemplate, event.QueryArgs = text, text, nil
	return ended{ctx, err}
}

// AfterQuery implements [bun.QueryHook].
func (guard) AfterQuery(context.Context, *bun.QueryEvent) {}

// ended is a context that has ended with an error.
type ended struct {
	context.Context
	err error
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (e ended) Done() <-chan struct{} { return closed }
func (e ended) Err() error            { return e.err }

func (p *plugin) options() sqlscan.Options {
	return sqlscan.Options{MySQL: p.dialect == field.MySQL, Constants: true}
}

func (p *plugin) look(event *bun.QueryEvent) error {
	if p.isInsertOfRecords(event) {
		return nil // of what the records hold when it is sent
	}
	if err := unwritable(event.Query); err != nil {
		return err
	}
	if !p.mentions(event.Query) {
		return nil
	}
	s := sqlscan.Parse(event.Query, p.options())
	if err := p.lookAtWritten(s, event); err != nil {
		return err
	}
	if err := p.lookAtRead(s, event); err != nil {
		return err
	}
	return p.lookAtConditions(s)
}

// unwritable is the error of an argument, which bun writes into the statement.
func unwritable(text string) error {
	at := strings.Index(text, "?!(")
	if at < 0 {
		return nil
	}
	for _, err := range []error{kmsencrypted.ErrUnsealed, kmsencrypted.ErrNotLoaded, kmsencrypted.ErrConfig} {
		if strings.Contains(text[at:], err.Error()) {
			return &kmsencrypted.Error{Op: "query", Err: err, Cause: errors.New("an argument cannot be written: an encrypted value is written as the field of a record that is inserted or updated")}
		}
	}
	return nil
}

// isInsertOfRecords reports whether the hook of the table looked at an INSERT.
func (p *plugin) isInsertOfRecords(event *bun.QueryEvent) bool {
	q, ok := event.IQuery.(*bun.InsertQuery)
	if !ok {
		return false
	}
	_, ok = connOf(q, event.DB).(*conn)
	return ok
}

// mentions is a quick search for any of the tables and any of their columns.
func (p *plugin) mentions(text string) bool {
	text = strings.ToLower(text)
	for _, t := range p.tables {
		if strings.Contains(text, strings.ToLower(plainName(t.name))) {
			return true
		}
	}
	return false
}

// plainName is a name without what stands before its last dot.
func plainName(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// tablesIn lists the tables of models that a statement mentions, wherever it does.
func (p *plugin) tablesIn(s *sqlscan.Statement) (list []*table) {
	for _, t := range p.tables {
		if s.Mentioned[strings.ToLower(plainName(t.name))] {
			list = append(list, t)
		}
	}
	return list
}

// lookAtWritten refuses encrypted columns in what is no record.
func (p *plugin) lookAtWritten(s *sqlscan.Statement, event *bun.QueryEvent) error {
	q, isUpdate := event.IQuery.(*bun.UpdateQuery)
	if isUpdate {
		if _, ok := connOf(q, event.DB).(*conn); ok {
			return nil // the hook of the table looked at it
		}
	}
	_, isInsert := event.IQuery.(*bun.InsertQuery)
	_, isMerge := event.IQuery.(*bun.MergeQuery)
	inserts := isInsert || isMerge || startsWith(event.Query, "INSERT", "REPLACE", "MERGE")
	for _, t := range p.tablesIn(s) {
		if isUpdate && !t.isTarget(q) {
			continue
		}
		for _, column := range s.Written {
			column = strings.ToLower(column)
			switch {
			case isUpdate:
				if err := t.checkSet(column); err != nil {
					return err
				}
			case inserts && slices.Contains(t.managed, column):
				return t.refused("insert", column, kmsencrypted.ErrUnsealed, "insert records: NewInsert().Model(&record)")
			}
		}
	}
	return nil
}

// isTarget reports whether an UPDATE is one of the table, and does not only read it.
func (t *table) isTarget(q *bun.UpdateQuery) bool {
	if reflect.ValueOf(q).Elem().FieldByName("with").Len() > 0 {
		return true // bun may name the table of a WITH
	}
	name, _, _ := strings.Cut(strings.TrimSpace(q.GetTableName()), " ")
	name = strings.Trim(plainName(name), "\"`")
	return name == "" || strings.EqualFold(name, plainName(t.name))
}

func startsWith(text string, verbs ...string) bool {
	text = strings.ToUpper(strings.TrimSpace(text))
	return slices.ContainsFunc(verbs, func(verb string) bool { return strings.HasPrefix(text, verb) })
}

// lookAtRead refuses a SELECT that reads ciphertexts into what is no record.
func (p *plugin) lookAtRead(s *sqlscan.Statement, event *bun.QueryEvent) error {
	q, ok := event.IQuery.(*bun.SelectQuery)
	if !ok {
		return nil
	}
	m, isTable := event.Model.(bun.TableModel)
	if isTable {
		if _, ok := m.Table().ZeroIface.(*hooks); ok {
			return nil // the hook of the table looked at it
		}
	}
	for _, t := range p.tablesIn(s) {
		column := t.selected(q)
		if isTable && column == "" {
			column = t.readBy(m.Table())
		}
		if column != "" {
			return t.refused("select", column, kmsencrypted.ErrNotOpened, "read it into a record: NewSelect().Model(&records)")
		}
		if isTable && t.isJoined(m.Table()) && s.Mentioned[strings.ToLower(t.fields[0])] {
			return t.refused("select", t.fields[0], kmsencrypted.ErrNotOpened, "the relation is not opened: call kmsbun.UseRelations for its parent")
		}
	}
	return nil
}

// selected returns an encrypted column that a query without a record selects.
func (t *table) selected(q *bun.SelectQuery) string {
	columns := *columnsOf(q)
	if _, isTable := q.GetModel().(bun.TableModel); columns == nil && !isTable {
		return t.fields[0] // SELECT *
	}
	for _, c := range columns {
		list := sqlscan.Parse("SELECT "+c.Query, t.options())
		for _, name := range t.fields {
			if list.Mentioned[strings.ToLower(name)] {
				return name
			}
		}
		if all := strings.TrimSpace(c.Query); all == "*" || strings.HasSuffix(all, ".*") {
			return t.fields[0]
		}
	}
	return ""
}

// readBy returns an encrypted column that another struct for the same table reads as
// something else.
func (t *table) readBy(other *schema.Table) string {
	if other.Name != t.name {
		return ""
	}
	for _, name := range t.fields {
		if f := other.FieldMap[name]; f != nil && !isOurs(f.StructField.Type) {
			return name
		}
	}
	return ""
}

// isJoined reports whether a struct has a relation to the records.
func (t *table) isJoined(parent *schema.Table) bool {
	for _, r := range parent.Relations {
		if r.JoinTable.Type == t.rowType {
			return true
		}
	}
	return false
}

// lookAtConditions refuses a plaintext that is compared with an encrypted column, or
// set in SQL of the program.
func (p *plugin) lookAtConditions(s *sqlscan.Statement) error {
	for _, c := range s.Compared {
		for _, n := range c.Names {
			t, column := p.secret(s, n)
			if t == nil {
				continue
			}
			for _, i := range c.Placeholders {
				if !t.isStored(column, s.Constants[i]) {
					return t.refused("query", column, kmsencrypted.ErrUnsealed, "an encrypted column cannot be searched: use a blind index and kmsbun.Matches")
				}
			}
		}
	}
	return nil
}

// secret returns the encrypted column or index that a name in a statement means.
func (p *plugin) secret(s *sqlscan.Statement, n sqlscan.Name) (*table, string) {
	column := strings.ToLower(n.Column)
	if _, after, ok := strings.Cut(column, "__"); ok && n.Table == "" { // of a relation
		column = after
	}
	owner := strings.ToLower(n.Table)
	if real := s.Tables[owner]; real != "" {
		owner = real
	}
	for _, t := range p.tables {
		name := strings.ToLower(plainName(t.name))
		named := owner == name || owner == "" || s.Tables[owner] == "" // an alias of a subquery
		if !named || !slices.ContainsFunc(p.tablesIn(s), func(in *table) bool { return in == t }) {
			continue
		}
		for _, c := range t.managed {
			if strings.EqualFold(c, column) && !slices.Contains(t.model.KeyColumns(), c) {
				return t, c
			}
		}
	}
	return nil, ""
}
