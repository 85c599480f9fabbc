package sqldialect

import "strings"

// Statement is SQL under construction, with as many of its arguments as are known.
type Statement struct {
	strings.Builder
	Dialect Dialect
	Args    []any
	marks   int
	mark    func(n int) string // the nth placeholder, from 0; nil is the dialect's
}

// Statement begins one.
func (d Dialect) Statement(parts ...string) *Statement {
	s := &Statement{Dialect: d}
	s.Add(parts...)
	return s
}

// Add adds text.
func (s *Statement) Add(parts ...string) {
	for _, part := range parts {
		s.WriteString(part)
	}
}

// Name adds a name in quotes.
func (s *Statement) Name(name string) { s.Add(s.Dialect.Quoted(name)) }

// Table adds the name of a table, which may have a schema before a dot.
func (s *Statement) Table(name string) { s.Add(s.Dialect.QuotedTable(name)) }

// Mark adds a placeholder for an argument that is given later.
func (s *Statement) Mark() {
	if s.marks++; s.mark != nil {
		s.Add(s.mark(s.marks - 1))
		return
	}
	s.Add(s.Dialect.Placeholder(s.marks))
}

// Arg adds a placeholder and its argument.
func (s *Statement) Arg(v any) {
	s.Args = append(s.Args, v)
	s.Mark()
}

// Each adds something for each of n, with a separator between.
func (s *Statement) Each(n int, separator string, add func(i int)) {
	for i := range n {
		if i > 0 {
			s.WriteString(separator)
		}
		add(i)
	}
}

// Names adds names in quotes, with commas between.
func (s *Statement) Names(names []string) {
	s.Each(len(names), ", ", func(i int) { s.Name(names[i]) })
}

// Marks adds n placeholders in parentheses, as a list of IN or a row of VALUES.
func (s *Statement) Marks(n int) {
	s.Add("(")
	s.Each(n, ", ", func(int) { s.Mark() })
	s.Add(")")
}

// Row adds placeholders in parentheses for arguments.
func (s *Statement) Row(args ...any) {
	s.Args = append(s.Args, args...)
	s.Marks(len(args))
}

// Rows adds what follows VALUES.
func (s *Statement) Rows(rows [][]any) {
	s.Each(len(rows), ", ", func(i int) { s.Row(rows[i]...) })
}

// Condition says that a column holds one of so many values, NULL among them.
type Condition struct {
	Column string
	Values int
	// As is what is compared, with %s for the column. Empty: the column.
	As string
	// Exact compares texts by their characters: see [Dialect.Exact].
	Exact bool
}

// Where adds the conditions that the row has this id and the columns hold what
// they held.
func (s *Statement) Where(ids []string, same ...Condition) {
	s.Add(" WHERE ")
	s.Each(len(ids), " AND ", func(i int) {
		s.Name(ids[i])
		s.Add(" = ")
		s.Mark()
	})
	for _, c := range same {
		s.Add(" AND ")
		s.holds(c)
	}
}

// Holds returns conditions that are joined by AND. mark returns the nth placeholder,
// from 0.
func (d Dialect) Holds(same []Condition, mark func(n int) string) string {
	s := d.Statement()
	s.mark = mark
	s.Each(len(same), " AND ", func(i int) { s.holds(same[i]) })
	return s.String()
}

func (s *Statement) holds(c Condition) {
	compared, before, after := s.Dialect.Quoted(c.Column), "", ""
	switch {
	case c.Exact:
		compared, before, after = s.Dialect.Exact(compared)
	case c.As != "":
		compared = strings.ReplaceAll(c.As, "%s", compared)
	}
	if c.Values > 1 {
		s.Add("(")
		defer s.Add(")")
	}
	s.Each(c.Values, " OR ", func(int) {
		s.Add(compared, " ", s.Dialect.Same(), " ", before)
		s.Mark()
		s.Add(after)
	})
}
