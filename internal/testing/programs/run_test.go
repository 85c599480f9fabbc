package programs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-sql-driver/mysql"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// execution is a program that runs.
type execution struct {
	ctx       context.Context
	program   program
	sessions  []*session
	committed state
	inserted  []string // keys of committed, in the order of their first insert
	same      func(id string) string
	spelled   func(tenant string) string
	count     *counts
}

// session is a process of the program with what it has in memory and in its
// transaction.
type session struct {
	process
	processSetting
	variables [3]*variable
	inTx      bool
	effects   []effect // of the transaction
	marks     []int    // effects at each savepoint
}

// variable is a record in memory.
type variable struct {
	record
	closed bool
	known  map[string]*string // what the record holds
	loaded map[string]*string // what it held when it was read or confirmed
	dirty  map[string]*string // of known what was set and is not confirmed
	isSet  map[string]bool    // by this program, confirmed or not: what is closed is not
	unsure map[string]bool    // set, but perhaps no change
	tenant string             // that it was read with
}

func newVariable(r record) *variable {
	return &variable{record: r, known: map[string]*string{}, dirty: map[string]*string{}, isSet: map[string]bool{}, unsure: map[string]bool{}}
}

// confirm notes that the row is known to hold what the record does.
func (v *variable) confirm() {
	v.loaded, v.tenant = maps.Clone(v.known), v.values().Tenant
	clear(v.dirty)
	clear(v.unsure)
}

// lost is a violation: what a program was told is not what is in the table.
type lost struct{ what string }

func (l lost) Error() string { return l.what }

func lostf(format string, args ...any) error { return lost{fmt.Sprintf(format, args...)} }

// action is what a step does. The error is that of the call, or of type lost.
type action struct {
	onVariable bool // needs one; new and read make one
	run        func(*execution, *session, step) error
}

var actions = map[string]action{
	"new":       {true, (*execution).newRecord},
	"read":      {true, (*execution).read},
	"set":       {true, (*execution).set},
	"change":    {true, (*execution).change},
	"title":     {true, (*execution).title},
	"move":      {true, (*execution).move},
	"insert":    {true, (*execution).insert},
	"update":    {true, (*execution).update},
	"rewrap":    {true, (*execution).rewrap},
	"rekey":     {true, (*execution).rekey},
	"delete":    {true, (*execution).remove},
	"rotate":    {false, (*execution).rotate},
	"begin":     {false, (*execution).begin},
	"commit":    {false, (*execution).commit},
	"rollback":  {false, (*execution).rollback},
	"savepoint": {false, (*execution).savepoint},
	"undo":      {false, (*execution).undo}, // back to the last savepoint
}

// errIdle says that a step made no sense where it stood.
var errIdle = errors.New("nothing to do")

// run runs the steps. The error is of type lost.
func (x *execution) run() error {
	defer x.end()
	for i, s := range x.program.steps {
		session := x.sessions[s.process]
		err := actions[s.do].run(x, session, s)
		if l := (lost{}); errors.As(err, &l) {
			return lostf("step %d: %s", i+1, l.what)
		}
		if trace != nil {
			trace("%3d. %v: %v", i+1, s, err)
		}
		x.count.step(s.do, err)
		if session.inTx && (wasRolledBack(err) || session.adapter == viaGorm && endsTransaction(err)) {
			_ = x.rollback(session, s)
		}
	}
	x.end()
	return nil
}

// end rolls back what is open.
func (x *execution) end() {
	for _, s := range x.sessions {
		if s.inTx {
			_ = x.rollback(s, step{})
		}
	}
}

// wasRolledBack reports whether the server ended the transaction: MariaDB does for
// a deadlock.
func wasRolledBack(err error) bool {
	const deadlock = 1213
	var e *mysql.MySQLError
	return errors.As(err, &e) && e.Number == deadlock
}

// endsTransaction reports whether gorm.DB.Transaction would roll back: it does for
// every error, and a Create that failed may have left a row without values.
func endsTransaction(err error) bool { return err != nil && !errors.Is(err, errIdle) }

// acknowledge notes what a call did that returned no error.
func (x *execution) acknowledge(s *session, do effect) {
	if s.inTx {
		s.effects = append(s.effects, do)
	} else {
		do(x.committed)
	}
}

func (x *execution) variable(s *session, st step) (*variable, error) {
	if v := s.variables[st.variable]; v != nil {
		return v, nil
	}
	return nil, errIdle
}

// --- In memory.

func (x *execution) newRecord(s *session, st step) error {
	v := newVariable(s.blank())
	v.setID(st.id)
	v.values().Tenant = *st.value
	s.variables[st.variable] = v
	return nil
}

func (x *execution) set(s *session, st step) error {
	v, err := x.variable(s, st)
	if err != nil {
		return err
	}
	c, ok := columnOf(v.record, st.column)
	if !ok {
		return errIdle
	}
	c.set(v.record, st.value)
	v.note(st.column, st.value)
	return nil
}

func (v *variable) note(column string, value *string) {
	v.known[column] = value
	was, wasLoaded := v.loaded[column]
	if value == nil && wasLoaded && was == nil {
		delete(v.dirty, column)
		v.unsure[column] = true
		return
	}
	v.dirty[column], v.isSet[column] = value, true
	delete(v.unsure, column)
}

func (x *execution) change(s *session, st step) error {
	v, err := x.variable(s, st)
	if err != nil {
		return err
	}
	c, ok := columnOf(v.record, st.column)
	if !ok || c.change == nil {
		return errIdle
	}
	text, ok := c.change(v.record, *st.value)
	if !ok {
		return errIdle
	}
	v.note(st.column, &text)
	return nil
}

func (x *execution) title(s *session, st step) error {
	v, err := x.variable(s, st)
	if err == nil {
		v.values().Title = *st.value
	}
	return err
}

func (x *execution) move(s *session, st step) error {
	v, err := x.variable(s, st)
	if err == nil {
		v.values().Tenant = *st.value
	}
	return err
}

// --- Calls.

func (x *execution) read(s *session, st step) error {
	if len(x.inserted) == 0 {
		return errIdle
	}
	id := x.inserted[st.row%len(x.inserted)]
	key := s.blank()
	want, exists := x.committed[id]
	if exists {
		id = want.id
	}
	key.setID(id)
	closed := s.encryptOnly
	r, err := s.process.read(x.ctx, key.args(), closed)
	if err != nil {
		// A column that the old release does not know is under the seal.
		mayFail := s.inTx || s.isOld && x.program.recordSeal || !exists && errors.Is(err, sql.ErrNoRows)
		if !mayFail {
			return lostf("row %s cannot be read: %v", id, err)
		}
		return err
	}
	v := newVariable(r)
	v.closed = closed
	if closed {
		if now, exists := x.committed.after(s.effects)[x.inserted[st.row%len(x.inserted)]]; exists {
			for _, c := range columnsOf(r) {
				if value := now.values[c.name]; value != nil {
					v.known[c.name] = value[0]
				}
			}
		}
	} else if v.known, err = valuesOf(r); err != nil {
		return lostf("row %s was read: %v", id, err)
	}
	v.confirm()
	s.variables[st.variable] = v
	if s.inTx || closed {
		return nil // it may be an older state
	}
	if !exists {
		return lostf("row %s is there and should not be", id)
	}
	x.count.values += len(v.known)
	if d := want.differs(r, x.spelled); d != "" {
		return lostf("row %s was read: %s", id, d)
	}
	want.pin(r, v.known)
	return nil
}

func (x *execution) insert(s *session, st step) error {
	v, err := x.variable(s, st)
	if err != nil {
		return err
	}
	if err := s.process.insert(x.ctx, v.record); err != nil {
		return err
	}
	for name, value := range v.loaded {
		if v.closed && value != nil && !v.isSet[name] {
			return lostf("a record was inserted again, and %s was not opened", name)
		}
	}
	return x.noteInserted(s, v)
}

// noteInserted notes a new row with all that a record holds.
func (x *execution) noteInserted(s *session, v *variable) error {
	id := v.id()
	if id == "" {
		return lostf("a record was inserted and has no id")
	}
	key := x.same(id)
	if _, exists := x.committed.after(s.effects)[key]; exists {
		return lostf("a record was inserted over row %s", id)
	}
	for _, c := range columnsOf(v.record) {
		if _, set := v.known[c.name]; !set {
			v.known[c.name] = nil // it is NULL
		}
	}
	if !slices.Contains(x.inserted, key) {
		x.inserted = append(x.inserted, key)
	}
	new := row{id: id, tenants: []string{v.values().Tenant}, title: v.values().Title, values: choices(v.known)}
	x.acknowledge(s, func(to state) {
		copied := new
		copied.tenants, copied.values = slices.Clone(new.tenants), maps.Clone(new.values)
		to[key] = &copied
	})
	v.confirm()
	return nil
}

func (x *execution) update(s *session, st step) error {
	v, err := x.variable(s, st)
	if err != nil {
		return err
	}
	if err := s.process.update(x.ctx, v.record, st.flag); err != nil {
		return err
	}
	named := st.flag || s.adapter == viaGorm && v.values().Title != ""
	return x.noteUpdated(s, v, named, st.flag || s.adapter == viaGorm, s.adapter == viaGorm && st.flag)
}

// noteUpdated notes that a record was written: what was set, and the plain columns
// that the call names. A call that saves may have inserted the record.
func (x *execution) noteUpdated(s *session, v *variable, title, tenant, saves bool) error {
	key := x.same(v.id())
	_, exists := x.committed.after(s.effects)[key]
	moved := v.values().Tenant
	switch {
	case !exists && saves:
		return x.noteInserted(s, v)
	case !exists && (title || tenant || len(v.dirty) > 0):
		return lostf("an update of row %s was acknowledged, and there is no such row", v.id())
	case !exists:
		return nil
	}
	written, text, was, unsure := choices(v.dirty), v.values().Title, v.tenant, slices.Sorted(maps.Keys(v.unsure))
	x.acknowledge(s, func(to state) {
		r, exists := to[key]
		if !exists {
			return // nothing was written, so nothing kept others from deleting it
		}
		maps.Copy(r.values, written)
		for _, name := range unsure {
			if c := r.values[name]; !c.allows(nil) {
				r.values[name] = append(slices.Clip(c), nil)
			}
		}
		if title {
			r.title = text
		}
		if tenant {
			r.tenants = []string{moved}
		} else if !slices.Contains(r.tenants, moved) && moved != was {
			r.tenants = append(r.tenants, moved)
		}
	})
	if !s.inTx {
		v.confirm()
	}
	return nil
}

func (x *execution) rewrap(s *session, st step) error {
	return x.renew(s, st, s.process.rewrap)
}

func (x *execution) rekey(s *session, st step) error {
	return x.renew(s, st, s.process.rekey)
}

func (x *execution) renew(s *session, st step, call func(context.Context, record) error) error {
	v, err := x.variable(s, st)
	if err != nil {
		return err
	}
	if err := call(x.ctx, v.record); err != nil {
		return err
	}
	saves := s.adapter == viaGorm
	return x.noteUpdated(s, v, saves, saves, saves)
}

func (x *execution) remove(s *session, st step) error {
	v, err := x.variable(s, st)
	if err != nil || v.id() == "" {
		return errors.Join(err, errIdle)
	}
	if err := s.process.remove(x.ctx, v.record); err != nil {
		return err
	}
	key := x.same(v.id())
	if _, exists := x.committed.after(s.effects)[key]; !exists {
		return lostf("row %s was deleted, and there was no such row", v.id())
	}
	x.acknowledge(s, func(to state) { delete(to, key) })
	return nil
}

func (x *execution) rotate(s *session, st step) error {
	if slices.ContainsFunc(x.sessions, func(s *session) bool { return s.inTx }) || s.encryptOnly {
		return errIdle
	}
	kind := rotation.Rewrap
	if st.flag {
		kind = rotation.Rekey
	}
	return s.process.rotate(x.ctx, kind)
}

// --- Transactions.

func (x *execution) begin(s *session, _ step) error {
	if s.inTx {
		return errIdle
	}
	err := s.process.begin()
	s.inTx, s.effects, s.marks = err == nil, nil, nil
	return err
}

func (x *execution) commit(s *session, _ step) error {
	if !s.inTx {
		return errIdle
	}
	err := s.process.commit()
	if err == nil {
		x.committed = x.committed.after(s.effects)
	}
	s.inTx, s.effects = false, nil
	return err
}

func (x *execution) rollback(s *session, _ step) error {
	if !s.inTx {
		return errIdle
	}
	s.inTx, s.effects = false, nil
	return s.process.rollback()
}

func (x *execution) savepoint(s *session, _ step) error {
	if !s.inTx {
		return errIdle
	}
	err := s.process.savepoint(fmt.Sprintf("here%d", len(s.marks)))
	if err == nil {
		s.marks = append(s.marks, len(s.effects))
	}
	return err
}

func (x *execution) undo(s *session, _ step) error {
	if !s.inTx || len(s.marks) == 0 {
		return errIdle
	}
	last := len(s.marks) - 1
	err := s.process.rollbackTo(fmt.Sprintf("here%d", last))
	if err == nil {
		s.effects = s.effects[:s.marks[last]]
	}
	return err
}

// trace, where it is set, is told each step.
var trace func(format string, args ...any)

// viaGorm and viaSqlX are the adapters.
const (
	viaGorm = "gorm"
	viaSqlX = "sqlx"
)
