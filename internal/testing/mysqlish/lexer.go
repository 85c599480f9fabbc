package mysqlish

import "strings"

// token is a piece of a statement.
type token struct {
	kind  kind
	text  string // a word in capitals, everything else as in the statement
	start int    // offset in the statement
}

type kind uint8

const (
	word    kind = iota // also a number, and a variable with its @
	quoted              // a name in backticks
	literal             // a text
	comment
	mark // one character
)

// lex splits a statement. Blanks are left out; an unfinished token ends with it.
func lex(query string) (tokens []token) {
	for at := 0; at < len(query); {
		k, n := next(query[at:])
		if n == 0 { // a blank
			at++
			continue
		}
		text := query[at : at+n]
		if k == word {
			text = strings.ToUpper(text)
		}
		tokens = append(tokens, token{k, text, at})
		at += n
	}
	return tokens
}

// next returns the kind and length of the first token of a text, 0 for a blank.
func next(s string) (kind, int) {
	switch c := s[0]; {
	case strings.ContainsRune(" \t\r\n", rune(c)):
		return 0, 0
	case c == '`':
		return quoted, quotedLength(s, false)
	case c == '\'' || c == '"':
		return literal, quotedLength(s, true)
	case strings.HasPrefix(s, "/*"):
		return comment, upTo(s, "*/")
	case c == '#', strings.HasPrefix(s, "-- "), strings.HasPrefix(s, "--\n"):
		return comment, upTo(s, "\n")
	case isWord(c):
		n := 1
		for n < len(s) && isWord(s[n]) {
			n++
		}
		return word, n
	}
	return mark, 1
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c == '@' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

func upTo(s, end string) int {
	if i := strings.Index(s, end); i >= 0 {
		return i + len(end)
	}
	return len(s)
}

func quotedLength(s string, escapes bool) int {
	for i := 1; i < len(s); i++ {
		switch {
		case escapes && s[i] == '\\':
			i++
		case s[i] == s[0] && i+1 < len(s) && s[i+1] == s[0]:
			i++
		case s[i] == s[0]:
			return i + 1
		}
	}
	return len(s)
}
