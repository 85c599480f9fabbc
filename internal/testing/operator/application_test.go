package operator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// wrong is what must not be.
type wrong struct{ what string }

func (e wrong) Error() string { return e.what }

func wrongf(format string, args ...any) error { return wrong{fmt.Sprintf(format, args...)} }

// do does a step.
func (w *world) do(ctx context.Context, s step) error {
	switch s.do {
	case "insert":
		return w.insert(ctx, s)
	case "update":
		return w.update(ctx, s)
	case "move":
		return w.move(ctx, s)
	case "delete":
		return w.delete(ctx, s)
	case "foreign":
		return w.foreign(ctx, s)
	case "deny":
		return w.refuse(s.tenant, kmsencrypted.ErrDenied)
	case "throttle":
		return w.refuse(s.tenant, kmsencrypted.ErrThrottled)
	case "allow":
		return w.refuse(s.tenant, nil)
	case "deploy":
		w.current[s.table], w.fresh[s.table] = s.n, false
		return nil
	}
	return w.command(ctx, s)
}

func (w *world) refuse(tenant string, err error) error {
	if err == nil {
		delete(w.refused, tenant)
	} else {
		w.refused[tenant] = err
	}
	w.fresh = [2]bool{}
	w.trouble()
	return nil
}

// passes is nil for an error that a writer may meet: nothing was written then.
func (w *world) passes(what string, err error) error {
	for _, known := range []error{kmsencrypted.ErrConflict, kmsencrypted.ErrDenied, kmsencrypted.ErrThrottled} {
		if errors.Is(err, known) {
			w.count.note("refused " + what)
			return nil
		}
	}
	return wrongf("the application's %s: %v", what, err)
}

func (w *world) insert(ctx context.Context, s step) error {
	w.lastID++
	id, of := w.lastID, &record{tenant: s.tenant, values: s.values}
	var err error
	if s.table == 0 {
		err = kmssqlx.Insert(ctx, w.db, w.customers(s.n), &customer{ID: id, Tenant: s.tenant, Email: field.New(s.values[0]), Phone: field.New(s.values[1])})
	} else {
		of.tenant = ""
		err = kmssqlx.Insert(ctx, w.db, w.people(s.n), &person{ID: id, Email: field.New(s.values[0]), Phone: field.New(s.values[1])})
	}
	if err != nil {
		return w.passes("insert", err)
	}
	w.shadow[s.table][id] = of
	w.count.note("insert")
	return nil
}

// chosen is a row of a step; 0 if there is none.
func (w *world) chosen(s step) int64 {
	ids := slices.Sorted(maps.Keys(w.shadow[s.table]))
	if len(ids) == 0 {
		return 0
	}
	return ids[s.row%len(ids)]
}

func (w *world) update(ctx context.Context, s step) error {
	id := w.chosen(s)
	if id == 0 {
		return nil
	}
	var err error
	if s.table == 0 {
		var c customer
		m := w.customers(s.n)
		if err = kmssqlx.Get(ctx, w.db, m, &c, w.db.Rebind("SELECT * FROM customers WHERE id = ?"), id); err == nil {
			c.Email.Set(s.values[0])
			c.Phone.Set(s.values[1])
			err = kmssqlx.Update(ctx, w.db, m, &c)
		}
	} else {
		var p person
		m := w.people(s.n)
		if err = kmssqlx.Get(ctx, w.db, m, &p, w.db.Rebind("SELECT * FROM people WHERE id = ?"), id); err == nil {
			p.Email.Set(s.values[0])
			p.Phone.Set(s.values[1])
			err = kmssqlx.Update(ctx, w.db, m, &p)
		}
	}
	if err != nil {
		return w.passes("update", err)
	}
	w.shadow[s.table][id].values = s.values
	w.count.note("update")
	return nil
}

func (w *world) move(ctx context.Context, s step) error {
	id := w.chosen(s)
	if id == 0 {
		return nil
	}
	var c customer
	m := w.customers(s.n)
	err := kmssqlx.Get(ctx, w.db, m, &c, w.db.Rebind("SELECT * FROM customers WHERE id = ?"), id)
	if err == nil {
		c.Tenant = s.tenant
		err = kmssqlx.Update(ctx, w.db, m, &c, "tenant")
	}
	if err != nil {
		return w.passes("move", err)
	}
	w.shadow[0][id].tenant = s.tenant
	w.count.note("move")
	return nil
}

func (w *world) delete(ctx context.Context, s step) error {
	id := w.chosen(s)
	if id == 0 {
		return nil
	}
	if _, err := w.db.ExecContext(ctx, w.db.Rebind("DELETE FROM "+tables[s.table]+" WHERE id = ?"), id); err != nil {
		return err
	}
	delete(w.shadow[s.table], id)
	w.count.note("delete")
	return nil
}

// readAll compares all rows with what the application was told, as a process reads them
// that lists the versions above retired. Rows whose tenant is refused are left out.
func (w *world) readAll(ctx context.Context, retired int, only ...int) error {
	for table := range tables {
		if len(only) > 0 && !slices.Contains(only, table) {
			continue
		}
		rows, err := w.opened(ctx, table, retired)
		if err != nil {
			return err
		}
		if len(rows) != len(w.shadow[table]) {
			return wrongf("%s has %d rows, want %d", tables[table], len(rows), len(w.shadow[table]))
		}
		for id, want := range w.shadow[table] {
			got, exists := rows[id]
			if !exists {
				return wrongf("%s %d is gone", tables[table], id)
			}
			if got.err != nil && w.refused[want.tenant] != nil {
				continue
			}
			if got.err != nil {
				return wrongf("%s %d is not readable: %v", tables[table], id, got.err)
			}
			if got.tenant != want.tenant || show(got.values[0]) != show(want.values[0]) || show(got.values[1]) != show(want.values[1]) {
				return wrongf("%s %d is %s %s %s, want %s %s %s", tables[table], id, got.tenant, show(got.values[0]), show(got.values[1]),
					want.tenant, show(want.values[0]), show(want.values[1]))
			}
			w.count.rows++
		}
	}
	return nil
}

// read is a row as a process sees it.
type read struct {
	record
	err error
}

func (w *world) opened(ctx context.Context, table, retired int) (map[int64]read, error) {
	rows := make(map[int64]read)
	var err error
	if table == 0 {
		var list []customer
		if err := w.db.SelectContext(ctx, &list, "SELECT * FROM customers"); err != nil {
			return nil, err
		}
		m := modelOf[customer](w, w.customersBox(3, retired), "customers")
		err = m.Open(ctx, field.Pointers(list)...)
		errs := byIndex(err)
		for i := range list {
			r := read{record{tenant: list[i].Tenant}, errs[i]}
			if r.err == nil {
				r.values = [2]*string{list[i].Email.Must(), list[i].Phone.Must()}
			}
			rows[list[i].ID] = r
		}
	} else {
		var list []person
		if err := w.db.SelectContext(ctx, &list, "SELECT * FROM people"); err != nil {
			return nil, err
		}
		m := modelOf[person](w, w.peopleBox(3, retired), "people")
		err = m.Open(ctx, field.Pointers(list)...)
		errs := byIndex(err)
		for i := range list {
			r := read{err: errs[i]}
			if r.err == nil {
				r.values = [2]*string{list[i].Email.Must(), list[i].Phone.Must()}
			}
			rows[list[i].ID] = r
		}
	}
	return rows, nil
}

func byIndex(err error) map[int]error {
	errs := make(map[int]error)
	if failures, is := errors.AsType[field.Failures](err); is {
		for _, f := range failures {
			errs[f.Index] = f.Err
		}
	} else if err != nil {
		errs[0] = err // of one record
	}
	return errs
}

// foreign is a writer that does not compare the key column: what it had sealed before a
// rekey it writes after it. The value is back once "rotate heal" was typed. Records with a
// seal are left out: there a value that was set back stays an error.
func (w *world) foreign(ctx context.Context, s step) error {
	id := w.chosen(s)
	if id == 0 || w.active(s.table) || w.shadow[s.table][id].values[0] == nil || len(w.refused) > 0 || s.table == 0 && w.current[0] == sealed {
		return nil
	}
	cell := func(column string) (value string) {
		if err := w.db.Get(&value, w.db.Rebind("SELECT "+column+" FROM "+tables[s.table]+" WHERE id = ?"), id); err != nil {
			w.Fatal(err)
		}
		return value
	}
	before, key := cell("email_ciphertext"), cell("encrypted_kms_key")
	table := " --table " + tables[s.table]
	if err := w.typed(ctx, "rotate run --kind rekey --writers-are-ours"+table, 0); err != nil {
		return err
	}
	if cell("encrypted_kms_key") == key {
		return nil // it was at the version already
	}
	if _, err := w.db.ExecContext(ctx, w.db.Rebind("UPDATE "+tables[s.table]+" SET email_ciphertext = ? WHERE id = ?"), before, id); err != nil {
		return err
	}
	for _, command := range []struct {
		words string
		code  int
	}{{"rotate verify", 2}, {"rotate heal --dry-run", 0}, {"rotate heal", 0}, {"rotate verify", 0}} {
		if err := w.typed(ctx, command.words+table, command.code); err != nil {
			return err
		}
	}
	w.verified[s.table] = true
	w.count.note("healed")
	return w.readAll(ctx, 0)
}

// typed types a command that must end with a code.
func (w *world) typed(ctx context.Context, words string, want int) error {
	code, said := w.ops(ctx, w.db, words)
	if code != want {
		return wrongf("ops %s = %d, want %d\n%s", words, code, want, said)
	}
	return nil
}

// active reports whether a run of a table is unfinished.
func (w *world) active(table int) bool {
	return w.state(table) == "active" || w.state(table) == "paused"
}

// state is that of the unfinished run, or else the latest.
func (w *world) state(table int) (state string) {
	err := w.db.Get(&state, w.db.Rebind("SELECT state FROM kms_rotations WHERE table_name = ? ORDER BY CASE WHEN active = 1 THEN 0 ELSE 1 END, started DESC LIMIT 1"), tables[table])
	if err != nil {
		return "" // no run yet, or no table
	}
	return state
}

// scope lists the tables of a command.
func scope(words string) []int {
	for i, name := range tables {
		if strings.Contains(words, "--table "+name) {
			return []int{i}
		}
	}
	return []int{0, 1}
}
