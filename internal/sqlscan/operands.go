package sqlscan

import "strings"

// A query in parentheses and a CASE are operands: what they may give is compared with
// what stands beside them.

// caseOf reads a CASE after that word, and returns what it may give: what stands after
// THEN and ELSE. CASE a WHEN b compares a with b.
func (p *parser) caseOf() (results Comparison) {
	var operand, now Comparison
	part := "case"
	finish := func() {
		switch part {
		case "case":
			operand = now
		case "when":
			now.add(operand)
			p.Compared = append(p.Compared, now)
		default:
			results.add(now)
		}
		now = Comparison{}
	}
	for len(p.rest) > 0 {
		t := p.rest[0]
		if t.isName() {
			now.Names = append(now.Names, p.name())
			continue
		}
		p.rest = p.rest[1:]
		switch {
		case t.isWord("end"):
			finish()
			return results
		case t.isWord("when"), t.isWord("then"), t.isWord("else"):
			finish()
			part = strings.ToLower(t.text)
		case t.is(conditions) && part == "when":
			finish()
		case t.isWord("case"):
			now.add(p.caseOf())
		case t.kind == open && len(p.rest) > 0:
			now.add(p.list(false))
		case t.kind == placeholder:
			now.Placeholders = append(now.Placeholders, t.n)
		}
	}
	finish()
	return results
}

// resolve replaces the names that queries give to columns, such as e in q.e where q is
// SELECT email AS e.
func (p *parser) resolve() {
	for i := range p.Compared {
		var names []Name
		for _, n := range p.Compared[i].Names {
			names = append(names, p.meaning(n, 0)...)
		}
		p.Compared[i].Names = names
	}
}

// meaning returns the columns that a name may mean. Of a table in the statement, it
// means a column. Names may be given in a circle.
func (p *parser) meaning(n Name, depth int) []Name {
	given := p.Aliases[strings.ToLower(n.Column)]
	table := strings.ToLower(n.Table)
	_, isTable := p.Tables[table]
	if len(given) == 0 || table != "" && isTable && !p.named[table] || depth == 5 {
		return []Name{n}
	}
	names := []Name{n}
	for _, other := range given {
		names = append(names, p.meaning(other, depth+1)...)
	}
	return names
}
