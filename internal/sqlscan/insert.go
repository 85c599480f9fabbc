package sqlscan

import (
	"fmt"
	"strings"
)

// Insert is an INSERT of rows, taken apart.
type Insert struct {
	Rows   int
	o      Options
	head   string   // up to the list of columns, with its parenthesis
	list   string   // the list, and what follows up to the first row
	rows   []string // in parentheses
	marks  [][]token
	starts []int // of the rows in the statement
	tail   string
}

// SplitInsert takes INSERT INTO t (…) VALUES (…), (…) apart. It returns false for any
// other statement, and for one with placeholders outside its rows.
func SplitInsert(sql string, o Options) (in Insert, ok bool) {
	l := lexer{sql: sql, numbered: o.Numbered, mysql: o.MySQL}
	tokens := l.tokens()
	if len(tokens) == 0 || !tokens[0].isWord("insert") {
		return in, false
	}
	in.o = o
	at := 0
	for at < len(tokens) && tokens[at].kind != open {
		at++
	}
	if at == len(tokens) {
		return in, false
	}
	list := tokens[at].end
	in.head = sql[:list]
	for at < len(tokens) && !tokens[at].isWord("values") {
		if at++; at < len(tokens) && tokens[at].kind == placeholder {
			return in, false
		}
	}
	end := list
	for at++; at < len(tokens) && tokens[at].kind == open; at++ {
		first := at
		for depth := 0; at < len(tokens); at++ {
			if tokens[at].kind == open {
				depth++
			} else if tokens[at].kind == closing {
				if depth--; depth == 0 {
					break
				}
			}
		}
		if at == len(tokens) {
			return in, false
		}
		if in.list == "" {
			in.list = sql[list:tokens[first].start]
		}
		end = tokens[at].end
		in.starts = append(in.starts, tokens[first].start)
		in.rows = append(in.rows, sql[tokens[first].start:end])
		in.marks = append(in.marks, placeholders(tokens[first:at]))
		if at+1 == len(tokens) || tokens[at+1].kind != comma {
			at++
			break
		}
		at++
	}
	if at < len(tokens) && len(placeholders(tokens[at:])) > 0 {
		return in, false
	}
	in.tail, in.Rows = sql[end:], len(in.rows)
	return in, in.Rows > 0
}

func placeholders(tokens []token) (marks []token) {
	for _, t := range tokens {
		if t.kind == placeholder {
			marks = append(marks, t)
		}
	}
	return marks
}

// Some returns the INSERT of some of the rows, and which of its arguments it takes.
func (in Insert) Some(rows ...int) (sql string, args []int) { return in.some("", "", rows) }

// WithColumn returns the INSERT of all rows with one more column before the others.
// before is what stands before VALUES. The argument -1-i is the value of row i there.
func (in Insert) WithColumn(quoted, before string) (sql string, args []int) {
	all := make([]int, in.Rows)
	for i := range all {
		all[i] = i
	}
	return in.some(quoted, before, all)
}

func (in Insert) some(column, before string, rows []int) (sql string, args []int) {
	var b strings.Builder
	mark := func(arg int) {
		args = append(args, arg)
		if in.o.Numbered {
			fmt.Fprintf(&b, "$%d", len(args))
		} else {
			b.WriteByte('?')
		}
	}
	b.WriteString(in.head)
	list := in.list
	if column != "" {
		b.WriteString(column + ", ")
		names, rest, _ := strings.Cut(list, ")")
		list = names + ") " + before + rest
	}
	b.WriteString(list)
	for n, i := range rows {
		if n > 0 {
			b.WriteString(", ")
		}
		text, at := in.rows[i], 0
		if column != "" {
			b.WriteByte('(')
			mark(-1 - i)
			b.WriteString(", ")
			at = 1
		}
		for _, t := range in.marks[i] {
			b.WriteString(text[at : t.start-in.starts[i]])
			mark(t.n)
			at = t.end - in.starts[i]
		}
		b.WriteString(text[at:])
	}
	b.WriteString(in.tail)
	return b.String(), args
}
