package kmsgorm

import (
	"errors"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// strict makes MariaDB and MySQL refuse what they would cut, whatever the session
// says, in an INSERT or UPDATE of a table of the plugin.
func (p *Plugin) strict(verb string) func(*gorm.DB) {
	return func(db *gorm.DB) {
		stmt := db.Statement
		before, after := dialectOf(db).StrictParts()
		t := p.tableOf(stmt)
		if before == "" || t == nil || stmt.SQL.Len() > 0 {
			return
		}
		c := stmt.Clauses[verb]
		if ignores(c) {
			_ = db.AddError(t.refused(strings.ToLower(verb), "", errors.ErrUnsupported, verb+" IGNORE stores what was cut: use clause.OnConflict"))
			return
		}
		c.BeforeExpression = clause.Expr{SQL: before}
		c.AfterNameExpression = clause.Expr{SQL: after}
		stmt.Clauses[verb] = c
	}
}

// ignores reports whether the program asks for a statement without errors.
func ignores(c clause.Clause) bool {
	modifier := ""
	switch e := c.Expression.(type) {
	case clause.Insert:
		modifier = e.Modifier
	case clause.Update:
		modifier = e.Modifier
	}
	return strings.Contains(strings.ToUpper(modifier), "IGNORE")
}
