package sqlscan

// written returns the columns in the list of an INSERT and on the left of the
// assignments of an UPDATE, of ON CONFLICT and of ON DUPLICATE KEY.
func written(tokens []token) (columns []string) {
	for i, t := range tokens {
		switch {
		case t.isWord("into"):
			columns = append(columns, inserted(tokens[i+1:])...)
		case t.isWord("set"), t.isWord("update") && i > 0 && tokens[i-1].isWord("key"):
			columns = append(columns, assigned(tokens[i+1:])...)
		}
	}
	return columns
}

// inserted reads the list after the table of an INSERT.
func inserted(rest []token) (columns []string) {
	for len(rest) > 0 && (rest[0].isName() || rest[0].kind == dot || rest[0].isWord("as")) {
		rest = rest[1:]
	}
	if len(rest) == 0 || rest[0].kind != open {
		return nil
	}
	for _, t := range rest[1:] {
		if t.kind == closing {
			break
		}
		if t.kind == word || t.kind == quoted {
			columns = append(columns, t.text)
		}
	}
	return columns
}

// assigned reads assignments up to the end of their list: the last name before each
// equal sign, or all names in a list in parentheses.
func assigned(rest []token) (columns []string) {
	depth, value := 0, false
	var names []string
	for _, t := range rest {
		switch {
		case t.kind == open:
			depth++
		case t.kind == closing:
			if depth--; depth < 0 {
				return columns
			}
		case depth == 0 && t.kind == comma:
			value, names = false, nil
		case depth == 0 && t.is(endOfSet):
			return columns
		case value:
		case depth == 0 && t.text == "=" && t.kind == other:
			value = true
			columns = append(columns, names...)
		case t.kind == dot:
			names = nil
		case t.kind == word || t.kind == quoted:
			names = append(names, t.text)
		}
	}
	return columns
}

var (
	endOfSet = words(`where from returning order limit on`)
	upserts  = words(`conflict duplicate ignore replace`)
)
