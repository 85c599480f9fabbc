package programs

import (
	"fmt"
	"strings"
)

// program is a setting and what is done in it. Every list of steps is a program: a
// step that makes no sense where it stands, such as a commit outside a transaction,
// does nothing. So steps can be left out of one that fails.
type program struct {
	setting
	steps []step
}

// setting is the table and the processes that work on it.
type setting struct {
	ids        string // the primary key: a name in idKinds
	tenants    string // the column of the tenant: a name in tenantKinds
	place      string // what encryption contexts are made of: a name in places
	recordSeal bool
	processes  []processSetting
}

type processSetting struct {
	adapter     string // sqlx or gorm
	isOld       bool   // the release that lacks a column
	encryptOnly bool
	version     int // that it writes
}

// step is one call of a process, or a change of one of its variables, which are
// records in memory.
type step struct {
	process, variable int
	do                string  // a name in actions
	column            string  // of set and change
	value             *string // of set, change, title and move; nil is NULL
	id                string  // of new
	row               int     // of read: the how manieth of the rows that were ever inserted
	flag              bool    // of update: the plain columns too; of rotate: a rekey
}

func (p program) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "primary key %s, tenant %s, place %s, record seal %t\n", p.ids, p.tenants, p.place, p.recordSeal)
	for i, s := range p.processes {
		fmt.Fprintf(&b, "process %d: %s, old release %t, encrypt only %t, version %d\n", i, s.adapter, s.isOld, s.encryptOnly, s.version)
	}
	for i, s := range p.steps {
		fmt.Fprintf(&b, "%3d. %v\n", i+1, s)
	}
	return b.String()
}

func (s step) String() string {
	text := fmt.Sprintf("process %d: %s", s.process, s.do)
	if a := actions[s.do]; a.onVariable {
		text += fmt.Sprintf(" %c", 'a'+s.variable)
	}
	switch s.do {
	case "new":
		text += fmt.Sprintf(" with id %q of tenant %q", s.id, *s.value)
	case "read":
		text += fmt.Sprintf(" from row %d", s.row)
	case "set", "change":
		text += fmt.Sprintf(".%s to %s", s.column, show(s.value))
	case "title", "move":
		text += fmt.Sprintf(" to %s", show(s.value))
	case "update":
		text += fmt.Sprintf(" (plain columns too: %t)", s.flag)
	case "rotate":
		text += fmt.Sprintf(" (rekey: %t)", s.flag)
	}
	return text
}

// show prints a value, and of a long one how long it is.
func show(value *string) string {
	switch {
	case value == nil:
		return "NULL"
	case len(*value) > 40:
		return fmt.Sprintf("%d bytes %.10q…", len(*value), *value)
	}
	return fmt.Sprintf("%q", *value)
}
