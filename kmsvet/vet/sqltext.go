package vet

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// statement is an INSERT or UPDATE, as far as it says which columns it writes.
type statement struct {
	insert   bool
	table    string
	set      []assignment
	upsert   []string // columns that an INSERT sets in a row that is there
	compared []string // names in the condition of an UPDATE
}

// assignment is a column and what it is set to.
type assignment struct {
	column string
	value  value
}

// value is one of: a literal, an argument by its position, NULL or anything else.
type value struct {
	literal, null bool
	argument      int // from 1
}

var tokens = regexp.MustCompile(`'(?:[^']|'')*'|"[^"]*"|` + "`[^`]*`" + `|\$[0-9]+|\?[0-9]*|[:@][A-Za-z_]\w*|[A-Za-z_]\w*|[0-9][0-9.]*|--[^\n]*|\S`)

// scanner reads a statement token by token. Names and words are in lower case,
// without quotes.
type scanner struct {
	tokens    []string
	questions int
}

func (s *scanner) peek() string {
	if len(s.tokens) == 0 {
		return ""
	}
	return strings.ToLower(strings.Trim(s.tokens[0], "\"`"))
}

func (s *scanner) next() string {
	t := s.peek()
	if len(s.tokens) > 0 {
		s.tokens = s.tokens[1:]
	}
	return t
}

// skip skips these words, wherever they stand.
func (s *scanner) skip(words ...string) {
	for slices.Contains(words, s.peek()) {
		s.next()
	}
}

// name reads a name and returns the last part of a.b.
func (s *scanner) name() string {
	n := s.next()
	for s.peek() == "." {
		s.next()
		n = s.next()
	}
	return n
}

// until reads the tokens of an expression that one of the ends follows, which may be
// commas, brackets and words.
func (s *scanner) until(ends ...string) []string {
	var list []string
	for depth := 0; len(s.tokens) > 0; {
		t := s.peek()
		if depth == 0 && slices.Contains(ends, t) {
			break
		}
		switch t {
		case "(":
			depth++
		case ")":
			depth--
		}
		if s.next(); t == "?" {
			s.questions++
			t = "$" + strconv.Itoa(s.questions)
		}
		list = append(list, strings.Replace(t, "?", "$", 1))
	}
	return list
}

// valueOf says what an expression is.
func valueOf(tokens []string) (v value) {
	for len(tokens) > 2 && tokens[1] == ":" { // a cast
		tokens = tokens[:1]
	}
	if len(tokens) != 1 {
		return v
	}
	t := tokens[0]
	v.null = t == "null"
	v.literal = t == "" || strings.ContainsAny(t[:1], "'0123456789") // "" is an empty text of MySQL
	if number, ok := strings.CutPrefix(t, "$"); ok {
		v.argument, _ = strconv.Atoi(number)
	}
	return v
}

// parse reads an INSERT or UPDATE. It returns false for other text, and for forms
// that it does not know.
func parse(text string) (st statement, ok bool) {
	s := &scanner{tokens: slices.DeleteFunc(tokens.FindAllString(text, -1), func(t string) bool { return strings.HasPrefix(t, "--") })}
	switch s.next() {
	case "insert":
		return s.insert()
	case "update":
		s.skip("only", "or", "ignore", "low_priority")
		st.table = s.name()
		s.until("set")
		st.set, ok = s.assignments()
		s.until("where")
		st.compared = s.until("returning")
		return st, ok
	}
	return st, false
}

// assignments reads SET a = x, b = y.
func (s *scanner) assignments() (list []assignment, ok bool) {
	for end := s.next(); end == "set" || end == "," || end == "update"; end = s.next() {
		column := s.name()
		if s.next() != "=" {
			return nil, false
		}
		list = append(list, assignment{column, valueOf(s.until(",", "where", "from", "returning", "order", ";"))})
		if s.peek() != "," {
			break
		}
	}
	return list, len(list) > 0
}

func (s *scanner) insert() (st statement, ok bool) {
	st.insert = true
	s.skip("or", "ignore", "replace", "into")
	st.table = s.name()
	if s.skip("as"); s.peek() != "(" {
		return st, false
	}
	s.next()
	for len(s.tokens) > 0 && s.peek() != ")" {
		st.set = append(st.set, assignment{column: s.name()})
		s.skip(",")
	}
	s.next()
	s.until("values", "select")
	if s.next(); s.peek() == "(" {
		s.next()
		for i := 0; i < len(st.set) && len(s.tokens) > 0; i++ {
			st.set[i].value = valueOf(s.until(",", ")"))
			if s.next() == ")" {
				break
			}
		}
	}
	s.until("update")
	if s.next(); s.peek() == "set" {
		s.next()
	}
	s.tokens = append([]string{"set"}, s.tokens...)
	again, _ := s.assignments()
	for _, a := range again {
		st.upsert = append(st.upsert, a.column)
	}
	return st, len(st.set) > 0
}
