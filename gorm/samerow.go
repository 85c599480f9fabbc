package kmsgorm

import (
	"errors"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// MySQL and MariaDB ignore the columns of ON CONFLICT: an upsert overwrites the row
// that has any of the unique values, also one with another primary key. That row
// would get a data key that is bound to the other one, and would never open again.

// sameRowName is a clause right after ON CONFLICT.
const sameRowName = "kmsencrypted:same row"

// otherRow is the error of a subquery with two rows, by which the clause fails.
const otherRow = "Error 1242 "

// requireSameRow makes an upsert fail that would overwrite a row with another primary
// key.
func (w *work) requireSameRow(db *gorm.DB) {
	stmt := db.Statement
	at := slices.Index(stmt.BuildClauses, "ON CONFLICT")
	if db.Dialector.Name() != "mysql" || len(w.ids) == 0 || at < 0 || slices.Contains(stmt.BuildClauses, sameRowName) {
		return
	}
	stmt.BuildClauses = slices.Insert(slices.Clone(stmt.BuildClauses), at+1, sameRowName)
	stmt.Clauses[sameRowName] = clause.Clause{Builder: func(_ clause.Clause, builder clause.Builder) {
		var same []string
		for _, id := range w.ids {
			name := stmt.Quote(id.DBName)
			same = append(same, name+" = VALUES("+name+")")
		}
		id := stmt.Quote(w.ids[0].DBName)
		_, _ = builder.WriteString(", " + id + " = IF(" + strings.Join(same, " AND ") + ", " + id + ", (SELECT NULL UNION ALL SELECT NULL))")
	}}
}

// explainOtherRow replaces the error of an upsert that met a row with another primary
// key.
func (w *work) explainOtherRow(db *gorm.DB) {
	if _, required := db.Statement.Clauses[sameRowName]; required && db.Error != nil && strings.Contains(db.Error.Error(), otherRow) {
		db.Error = w.refused("create", "", errors.ErrUnsupported, "a row with another primary key has a unique value of the record, and its data key is bound to its own: read that row, change it and save it")
	}
}
