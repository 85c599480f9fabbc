// Package sqlscan finds out which placeholder of a statement is compared with which
// column. Adapters that let a program write its own conditions use it to refuse a
// plaintext for an encrypted column.
package sqlscan

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// The parser drops all tokens that are neither names nor placeholders, nor needed to
// tell one comparison from the next.

type tokenKind uint8

const (
	other tokenKind = iota
	word
	quoted
	placeholder
	open
	closing
	comma
	dot
)

type token struct {
	kind tokenKind
	text string // of a name, without quotes; of a word in lower case too
	n    int    // of a placeholder, from 0
	// where it is in the statement
	start, end int
}

// lexer reads SQL. numbered placeholders are $1 and @p1; others are question marks.
type lexer struct {
	sql      string
	numbered bool
	mysql    bool // " is a string, and \ escapes in one
	constant bool // constants are placeholders too
	marks    int
	values   []string // of constants, by the number of the placeholder
}

func (l *lexer) tokens() (list []token) {
	for whole := len(l.sql); len(l.sql) > 0; {
		start := whole - len(l.sql)
		t := l.next()
		if t.start, t.end = start, whole-len(l.sql); t.kind != other || t.text != "" {
			list = append(list, t)
		}
	}
	return list
}

func (l *lexer) next() token {
	c := l.sql[0]
	switch {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		l.sql = l.sql[1:]
		return token{}
	case strings.HasPrefix(l.sql, "--"):
		l.skipPast("\n", 2)
		return token{}
	case strings.HasPrefix(l.sql, "/*"):
		l.skipPast("*/", 2)
		return token{}
	case c == '\'' || c == '"' && l.mysql:
		return l.literal(l.quoted(c, l.mysql))
	case c == '"' || c == '`':
		return token{kind: quoted, text: l.quoted(c, false)}
	case c == '[':
		return token{kind: quoted, text: strings.TrimSuffix(l.skipPast("]", 1), "]")}
	case c == '$' || c == '@':
		return l.number()
	case c == '?' && !l.numbered:
		l.sql = l.sql[1:]
		return l.mark("?")
	case isNamePart(rune(c)) || c >= 0x80:
		end := strings.IndexFunc(l.sql, func(r rune) bool { return !isNamePart(r) })
		if end < 0 {
			end = len(l.sql)
		}
		text := l.sql[:end]
		l.sql = l.sql[end:]
		if unicode.IsDigit(rune(c)) {
			return l.literal(text)
		}
		return token{kind: word, text: text}
	}
	l.sql = l.sql[1:]
	kinds := map[byte]tokenKind{'(': open, ')': closing, ',': comma, '.': dot}
	return token{kind: kinds[c], text: string(c)}
}

// literal is a constant.
func (l *lexer) literal(value string) token {
	if !l.constant {
		return token{kind: other, text: "literal"}
	}
	return l.mark(value)
}

// mark is a placeholder, or what counts as one.
func (l *lexer) mark(value string) token {
	l.marks++
	l.values = append(l.values, value)
	return token{kind: placeholder, n: l.marks - 1}
}

func isNamePart(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// number reads $1 or @p1.
func (l *lexer) number() token {
	digits := strings.TrimPrefix(l.sql[1:], "p")
	end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(digits)
	}
	n, err := strconv.Atoi(digits[:end])
	if err != nil || !l.numbered {
		l.sql = l.sql[1:]
		return token{kind: other, text: "$"}
	}
	l.sql = digits[end:]
	return token{kind: placeholder, n: n - 1}
}

// skipPast drops everything up to a mark, and returns it.
func (l *lexer) skipPast(mark string, from int) (skipped string) {
	end := strings.Index(l.sql[from:], mark)
	if end < 0 {
		skipped, l.sql = l.sql[from:], ""
		return skipped
	}
	skipped, l.sql = l.sql[from:from+end+len(mark)], l.sql[from+end+len(mark):]
	return skipped
}

// quoted reads text in quotes. A doubled quote stands for one.
func (l *lexer) quoted(quote byte, escapes bool) string {
	var b strings.Builder
	for i := 1; i < len(l.sql); i++ {
		switch c := l.sql[i]; {
		case c == '\\' && escapes:
			i++
		case c != quote:
			b.WriteByte(c)
		case i+1 < len(l.sql) && l.sql[i+1] == quote:
			b.WriteByte(c)
			i++
		default:
			l.sql = l.sql[i+1:]
			return b.String()
		}
	}
	l.sql = ""
	return b.String()
}

// ends are the words that begin or end a comparison in a query, and conditions those
// that do so in parentheses, where functions use other words.
var (
	ends = words(`select from where on having set join left right inner outer full cross natural using group order by limit
		offset fetch values union except intersect case when then else end returning and or xor window for with into insert update delete
		do conflict duplicate`)
	conditions = words(`and or xor`)
	tables     = words(`from join with into union except intersect`) // stand before one
)

// follow are words that may follow a table's name and are not its alias.
var follow = words(`as ignore force use lateral partition default key`)

func words(list string) map[string]bool {
	set := make(map[string]bool)
	for w := range strings.FieldsSeq(list) {
		set[w] = true
	}
	return set
}

func (t token) is(set map[string]bool) bool { return t.kind == word && set[strings.ToLower(t.text)] }

func (t token) isWord(text string) bool { return t.kind == word && strings.EqualFold(t.text, text) }

func (t token) isName() bool {
	return t.kind == quoted || t.kind == word && !t.is(ends) && !t.is(follow)
}

// Name is a column and the table before its dot.
type Name struct{ Table, Column string }

// Comparison lists names and placeholders that are compared with each other.
// Placeholders count from 0.
type Comparison struct {
	Names        []Name
	Placeholders []int
}

// Statement is what was found in a statement.
type Statement struct {
	Compared  []Comparison
	Mentioned map[string]bool   // every name, in lower case
	Tables    map[string]string // by alias and by name, in lower case
	Aliases   map[string][]Name // what columns of queries are made of, by their new names
	// Written are the columns that the statement assigns a value to, or inserts.
	Written []string
	// Constants are the values of placeholders that are constants, and "?" of others:
	// with [Options.Constants].
	Constants []string
	// Inserts says that the statement is an INSERT.
	Inserts bool
	// Upserts says that an INSERT may change a row that is there, or skip one.
	Upserts bool
}

// Options say how a database writes SQL.
type Options struct {
	Numbered bool // placeholders are $1 or @p1, not question marks
	MySQL    bool // " is a string, and \ escapes in one
	// Constants says that texts and numbers in the statement count as placeholders,
	// because a library writes its arguments into it.
	Constants bool
}

// Parse reads a statement. It never fails: what it does not understand is no
// comparison.
func Parse(sql string, o Options) *Statement {
	l := lexer{sql: sql, numbered: o.Numbered && !o.Constants, mysql: o.MySQL, constant: o.Constants}
	tokens := l.tokens()
	s := parse(tokens)
	s.Written, s.Constants = written(tokens), l.values
	s.Inserts = len(tokens) > 0 && (tokens[0].isWord("insert") || tokens[0].isWord("replace"))
	s.Upserts = slices.ContainsFunc(tokens, func(t token) bool { return t.is(upserts) })
	return s
}

// parser splits tokens into comparisons. A list in parentheses belongs to the
// comparison that it is a part of, unless it has conditions or a query of its own.
type parser struct {
	Statement
	rest  []token
	named map[string]bool // queries, by WITH
}

func parse(tokens []token) *Statement {
	p := &parser{rest: tokens, named: make(map[string]bool), Statement: Statement{Mentioned: make(map[string]bool), Tables: make(map[string]string), Aliases: make(map[string][]Name)}}
	if len(tokens) > 0 && tokens[0].isWord("update") {
		p.rest = tokens[1:]
		p.table()
	}
	for len(p.rest) > 0 {
		p.list(true)
	}
	p.resolve()
	return &p.Statement
}

// list reads up to the closing parenthesis. Its result is part of the comparison
// around it: that of a query is what it selects.
func (p *parser) list(query bool) (now Comparison) {
	query = query || p.rest[0].isWord("select") || p.rest[0].isWord("with")
	separate := query
	var selected Comparison
	selects, all := false, false // in the list of a SELECT; one with a star
	isTable := query             // what stands in parentheses is a table here, no operand
	finish := func() {
		if selects {
			selected.add(now)
		}
		p.Compared = append(p.Compared, now)
		now = Comparison{}
	}
	for len(p.rest) > 0 {
		t := p.rest[0]
		if t.isWord("distinct") && len(p.rest) > 1 && p.rest[1].isWord("from") {
			p.rest = p.rest[2:] // an operator
			continue
		}
		if t.kind == placeholder || !t.isName() {
			p.alias(now, query)
			p.rest = p.rest[1:]
		}
		switch {
		case t.kind == closing:
			if separate {
				finish()
				return selected
			}
			return now
		case t.kind == open && len(p.rest) > 0:
			inner := p.list(false)
			if !isTable {
				now.add(inner)
			} else if all {
				selected.add(inner)
			}
		case t.kind == comma && query:
			finish()
		case t.isWord("case"):
			now.add(p.caseOf())
		case query && t.is(ends), t.is(conditions):
			separate = true
			finish()
			selects, isTable = t.isWord("select"), t.is(tables)
			all = all && !selects
			if t.isWord("from") || t.isWord("join") || t.isWord("into") {
				p.table()
			}
		case t.kind == placeholder:
			now.Placeholders = append(now.Placeholders, t.n)
		case t.text == "*":
			all = all || selects
		case t.isName():
			now.Names = append(now.Names, p.name())
		}
	}
	finish()
	return now
}

func (c *Comparison) add(inner Comparison) {
	c.Names = append(c.Names, inner.Names...)
	c.Placeholders = append(c.Placeholders, inner.Placeholders...)
}

// name reads a name with dots.
func (p *parser) name() (n Name) {
	n.Column = p.rest[0].text
	p.rest = p.rest[1:]
	p.Mentioned[strings.ToLower(n.Column)] = true
	for len(p.rest) > 1 && p.rest[0].kind == dot && (p.rest[1].kind == quoted || p.rest[1].kind == word) {
		n.Table, n.Column = n.Column, p.rest[1].text
		p.Mentioned[strings.ToLower(n.Column)] = true
		p.rest = p.rest[2:]
	}
	return n
}

// table reads the table after FROM and the like, and its alias.
func (p *parser) table() {
	if len(p.rest) == 0 || !p.rest[0].isName() {
		return
	}
	table := strings.ToLower(p.name().Column)
	p.Tables[table] = table
	if len(p.rest) > 1 && p.rest[0].isWord("as") {
		p.rest = p.rest[1:]
	}
	if len(p.rest) > 0 && p.rest[0].isName() {
		p.Tables[strings.ToLower(p.rest[0].text)] = table
		p.rest = p.rest[1:]
	}
}

// alias remembers another name that a query gives to a column, x AS y, and the name of
// a query, x AS (SELECT …).
func (p *parser) alias(now Comparison, query bool) {
	if p.rest[0].isWord("as") && len(p.rest) > 1 && p.rest[1].kind == open && len(now.Names) > 0 {
		p.named[strings.ToLower(now.Names[0].Column)] = true
	}
	if query && p.rest[0].isWord("as") && len(p.rest) > 1 && p.rest[1].isName() && len(now.Names) > 0 {
		alias := strings.ToLower(p.rest[1].text)
		p.Aliases[alias] = append(p.Aliases[alias], now.Names...)
	}
}
