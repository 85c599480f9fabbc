package mysqlish

import (
	"regexp"
	"strconv"
	"strings"
)

const (
	version = "9.4.0"
	number  = 90400 // in /*!NNNNN comments
)

var (
	executable = regexp.MustCompile(`(?s)^/\*!(\d{5,6})?(.*)\*/$`)
	setVar     = regexp.MustCompile(`(?i)SET_VAR\s*\(\s*(\w+)\s*=\s*('[^']*'|\w+)\s*\)`)
	versions   = regexp.MustCompile(`(?i)@@(?:global\.)?version(_comment)?\b|\bversion\s*\(\s*\)`)
)

// translate rewrites a statement so that MariaDB runs what MySQL would: without
// the comments that only MariaDB executes, and with those that it would skip. A
// hint SET_VAR, which is a comment to MariaDB before 12, becomes its SET
// STATEMENT.
func translate(query string) (plain, sent string) {
	var b, hints strings.Builder
	at, tokens := 0, lex(query)
	for i, t := range tokens {
		if t.kind != comment {
			continue
		}
		b.WriteString(query[at:t.start] + " ")
		at = t.start + len(t.text)
		switch {
		case strings.HasPrefix(t.text, "/*!"):
			if m := executable.FindStringSubmatch(t.text); m != nil {
				if n, _ := strconv.Atoi(m[1]); n <= number {
					b.WriteString(m[2])
				}
			}
		case strings.HasPrefix(t.text, "/*+") && i > 0 && verbs[tokens[i-1].text]:
			for _, m := range setVar.FindAllStringSubmatch(t.text, -1) {
				if hints.Len() > 0 {
					hints.WriteString(", ")
				}
				hints.WriteString(m[1] + " = " + m[2])
			}
		}
	}
	b.WriteString(query[at:])
	plain = b.String()
	sent = plain
	if strings.Contains(strings.ToLower(plain), "version") {
		sent = versions.ReplaceAllString(plain, "'"+version+"'")
	}
	if hints.Len() > 0 {
		sent = "SET STATEMENT " + hints.String() + " FOR " + sent
	}
	return plain, sent
}

var verbs = map[string]bool{"SELECT": true, "INSERT": true, "REPLACE": true, "UPDATE": true, "DELETE": true}
