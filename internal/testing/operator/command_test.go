package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// execute runs a program. The error is of type wrong, or says that it could not be run.
func (w *world) execute(p program) error {
	ctx := w.Context()
	if err := w.begin(ctx); err != nil {
		return err
	}
	for i, s := range p {
		err := w.do(ctx, s)
		if err == nil {
			err = w.readAll(ctx, 0)
		}
		if l, is := err.(wrong); is {
			return wrongf("step %d, %v: %s", i+1, s, l.what)
		}
		if err != nil {
			return fmt.Errorf("step %d, %v: %w", i+1, s, err)
		}
		w.count.steps++
	}
	return w.finish(ctx)
}

// finish does in order what the runbook tells, after every key is allowed again: then
// the old versions may go.
func (w *world) finish(ctx context.Context) error {
	for _, tenant := range tenants {
		w.refuse(tenant, nil)
	}
	w.current = [2]int{3, 3}
	steps := []struct {
		words string
		code  int
	}{
		{"rotate cancel", 0}, {"rotate run --kind rekey --writers-are-ours", 0}, {"rotate verify", 0}, {"rotate clear-journal --grace 0s", 0},
		{"versions retire 1", 0}, {"versions retire 2", 0},
	}
	for _, s := range steps {
		if err := w.typed(ctx, s.words, s.code); err != nil {
			return wrongf("in the end: %v", err)
		}
		w.count.command(s.words, s.code)
	}
	if err := w.readAll(ctx, 2); err != nil {
		return wrongf("in the end: %v", err)
	}
	return nil
}

// ops types a command. Each is a process of its own.
func (w *world) ops(ctx context.Context, db *sqlx.DB, words string) (code int, said string) {
	var out lockedBuffer
	p := rotatecli.Program{Name: "ops", Stdout: &out, Stderr: &out, Open: func(context.Context) (*rotatecli.Database, error) {
		return &rotatecli.Database{DB: db.DB, Dialect: w.dialect, Models: []field.AnyModel{w.customers(w.current[0]), w.people(w.current[1])}}, nil
	}}
	code = p.Run(ctx, strings.Fields(words))
	return code, out.String()
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// command types a command of the program, and checks what comes of it.
func (w *world) command(ctx context.Context, s step) error {
	before := [2]map[string]string{w.keys(0), w.keys(1)}
	var during error
	var joined sync.WaitGroup
	happened, process := false, w.db
	ctx, interrupt := context.WithCancel(ctx)
	defer interrupt()
	if s.during != nil {
		if s.during.do == "die" {
			process = w.connect()
		}
		w.mu.Lock()
		w.calls.Store(int64(s.after))
		w.during = func() {
			happened = true
			switch s.during.do {
			case "die":
				interrupt()
				process.Close()
			case "interrupt":
				interrupt()
			case "join": // another process
				joined.Go(func() { w.ops(w.Context(), w.db, s.during.words) })
			default:
				during = w.do(w.Context(), *s.during)
			}
		}
		w.mu.Unlock()
	}
	code, said := w.ops(ctx, process, s.words)
	joined.Wait()
	if s.during != nil { // it may not have come to it
		w.mu.Lock()
		w.during = nil
		w.mu.Unlock()
	}
	if during != nil {
		return during
	}
	if happened {
		w.count.note("during: " + s.during.do)
		if s.during.do == "die" { // the lease of its shards ends
			if _, err := w.db.Exec("UPDATE kms_rotation_shards SET lease_until = 0"); err != nil && code != 1 {
				return err
			}
		}
	} else {
		s.during = nil
	}
	w.count.command(s.words, code)
	for table := range tables {
		if !maps.Equal(before[table], w.keys(table)) {
			w.verified[table] = w.verified[table] && !strings.HasPrefix(s.words, "rotate run") && !strings.HasPrefix(s.words, "rotate heal")
		}
	}
	return w.judge(s, before, code, said)
}

// judge checks the exit code of a command and what it says. The keys are those before it.
func (w *world) judge(s step, before [2]map[string]string, code int, said string) error {
	words := strings.Fields(s.words)
	name := strings.Join(words[:min(2, len(words))], " ")
	unexpected := wrongf("exit code %d\n%s", code, said)
	if code == 1 || code == 64 {
		if !w.mayFail(s, said) {
			return unexpected
		}
	}
	switch name {
	case "rotate run":
		return w.judgeRun(s, code, said)
	case "rotate verify":
		return w.judgeVerify(s, code, said)
	case "versions retire":
		return w.judgeRetire(s, code, said)
	case "rotate heal":
		w.fresh = [2]bool{}
		if code == 2 && len(w.refused) == 0 {
			return unexpected
		}
		return nil
	case "rotate status", "rotate plan":
		if code != 0 && code != 1 {
			return unexpected
		}
		if code == 0 && strings.Contains(s.words, "--json") {
			return w.judgeNumbers(name, before, said)
		}
		return nil
	case "rotate cancel", "rotate pause", "rotate resume", "rotate clear-journal":
		w.fresh = [2]bool{}
	}
	if code != 0 && code != 1 && name != "doctor" {
		return unexpected
	}
	return nil
}

// mayFail knows the reasons for which a command ends with 1.
func (w *world) mayFail(s step, said string) bool {
	if s.during != nil && s.during.do == "die" {
		return true
	}
	for _, known := range []string{
		"is unfinished: finish or cancel it",                     // another kind of run
		"permission denied by the key service",                   // in the proofs
		"the format changes, which needs --kind rekey",           // from Ruby's
		"a change of format needs a rekey, not a rewrap",         // the same, met later
		"every shard is held by another worker: no canary",       // all are done
		kmsencrypted.ErrConflict.Error(),                         // two began at once
		"kms_rotations", "lease of the shard", "no run of table", // nothing has begun
	} {
		if strings.Contains(said, known) {
			return true
		}
	}
	return false
}

func (w *world) judgeRun(s step, code int, said string) error {
	unexpected := wrongf("exit code %d\n%s", code, said)
	whole := true // of its tables
	for _, flag := range []string{"--limit", "--canary", "--where", "--tenant", "--dry-run"} {
		whole = whole && !strings.Contains(s.words, flag)
	}
	w.fresh = [2]bool{}
	troubled := len(w.refused) > 0 || s.during != nil
	switch code {
	case 0:
		if !whole || s.during != nil {
			return nil
		}
		for _, table := range scope(s.words) {
			for key, column := range w.keys(table) {
				if kmsencrypted.ColumnVersion(column) != w.current[table] {
					return wrongf("done, and %s %s is at version %d, not %d\n%s", tables[table], key, kmsencrypted.ColumnVersion(column), w.current[table], said)
				}
			}
			if w.active(table) {
				return wrongf("done, and the run of %s is %s\n%s", tables[table], w.state(table), said)
			}
		}
	case 2, 4:
		if !troubled {
			return unexpected
		}
	case 3:
		if s.during == nil && !w.paused(s.words) {
			return unexpected
		}
	}
	return nil
}

func (w *world) paused(words string) bool {
	return slices.ContainsFunc(scope(words), func(table int) bool { return w.state(table) == "paused" })
}

func (w *world) judgeVerify(s step, code int, said string) error {
	elsewhere, denied := false, []string(nil)
	if slices.Contains(scope(s.words), 0) {
		denied = w.denied()
	}
	for _, table := range scope(s.words) {
		for _, column := range w.keys(table) {
			elsewhere = elsewhere || kmsencrypted.ColumnVersion(column) != w.current[table]
		}
	}
	part := strings.Contains(s.words, "--sample") || strings.Contains(s.words, "--where")
	switch {
	case code == 0 && !part && (elsewhere || len(denied) > 0):
		return wrongf("clean, and keys are elsewhere (%t) or denied: %v\n%s", elsewhere, denied, said)
	case code == 2 && !elsewhere && len(w.refused) == 0:
		return wrongf("not clean, and every record is as it should be\n%s", said)
	case code != 0 && code != 2 && !(code == 4 && len(w.refused) > 0) && code != 1:
		return wrongf("exit code %d\n%s", code, said)
	}
	if part {
		return nil
	}
	for _, table := range scope(s.words) {
		if code == 0 {
			w.verified[table] = true
			w.fresh[table] = !w.active(table) && w.state(table) != ""
		} else {
			w.fresh[table] = false
		}
	}
	return nil
}

// denied lists the tenants with records whose key is denied for good.
func (w *world) denied() (list []string) {
	for _, r := range w.shadow[0] {
		if w.refused[r.tenant] == kmsencrypted.ErrDenied && (r.values[0] != nil || r.values[1] != nil) {
			list = append(list, r.tenant)
		}
	}
	return list
}

// judgeRetire is what all this is for.
func (w *world) judgeRetire(s step, code int, said string) error {
	version, err := strconv.Atoi(strings.Fields(s.words)[2])
	if err != nil {
		return err
	}
	var objections []string
	known := true // whether it is known that it must say yes
	for _, table := range scope(s.words) {
		object := func(format string, args ...any) {
			objections = append(objections, tables[table]+": "+fmt.Sprintf(format, args...))
		}
		if w.current[table] <= version {
			object("it writes version %d", w.current[table])
		}
		for key, column := range w.keys(table) {
			if kmsencrypted.ColumnVersion(column) <= version {
				object("%s is at it or below", key)
			}
		}
		if w.active(table) {
			object("a run is unfinished")
		}
		if !w.verified[table] {
			object("not verified")
		}
		var journaled int
		if w.db.Get(&journaled, w.db.Rebind("SELECT count(*) FROM kms_rotation_journal WHERE table_name = ? AND wrapped_key LIKE ?"), tables[table], fmt.Sprintf("v%d:%%", version)); journaled > 0 {
			object("%d keys in the journal", journaled)
		}
		known = known && w.fresh[table]
	}
	switch {
	case code == 0 && len(objections) > 0:
		return wrongf("yes, but %v\n%s", objections, said)
	case code == 2 && len(objections) == 0 && known:
		return wrongf("no, and nothing speaks against it\n%s", said)
	case code != 0 && code != 2 && code != 1:
		return wrongf("exit code %d\n%s", code, said)
	case code == 0:
		w.count.note("retired")
		return w.readAll(w.Context(), version, scope(s.words)...)
	}
	return nil
}

// judgeNumbers compares what is left to do with the keys that there are. The other workers
// of a run that is on may move some between the command and its judge.
func (w *world) judgeNumbers(name string, before [2]map[string]string, said string) error {
	var list []struct {
		Table           string
		Target          int
		Remaining, Keys int64
		State           string
	}
	if err := json.Unmarshal([]byte(said), &list); err != nil {
		return wrongf("%v\n%s", err, said)
	}
	for _, of := range list {
		table := slices.Index(tables, of.Table)
		first, last := w.elsewhere(table, before[table]), w.elsewhere(table, w.keys(table))
		least, most := min(first, last), max(first, last)
		if left := max(of.Remaining, of.Keys); left < least || left > most || of.Target != w.current[table] {
			return wrongf("%s is left with %d keys for version %d, want %d to %d for %d\n%s", of.Table, left, of.Target, least, most, w.current[table], said)
		}
		if state := w.state(table); name == "rotate status" && of.State != state && !(state == "" && of.State == "no run yet") {
			return wrongf("the run of %s is %q, want %q\n%s", of.Table, of.State, state, said)
		}
	}
	return nil
}

// elsewhere is the number of keys that are not at the version of their table.
func (w *world) elsewhere(table int, keys map[string]string) (n int64) {
	for _, column := range keys {
		if kmsencrypted.ColumnVersion(column) != w.current[table] {
			n++
		}
	}
	return n
}

// counts is what programs did.
type counts struct {
	programs, steps, rows int
	done                  map[string]int
}

func newCounts() *counts { return &counts{done: make(map[string]int)} }

func (c *counts) note(what string) { c.done[what]++ }

func (c *counts) command(words string, code int) {
	parts := strings.Fields(words)
	c.done[fmt.Sprintf("%s = %d", strings.Join(parts[:min(2, len(parts))], " "), code)]++
}

func (c *counts) String() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(c.done)) {
		parts = append(parts, fmt.Sprintf("%s %d", what, c.done[what]))
	}
	return fmt.Sprintf("programs: %d run, %d steps, %d rows read back; %s", c.programs, c.steps, c.rows, strings.Join(parts, ", "))
}

// check makes sure that programs met what they are for.
func (c *counts) check(t interface{ Errorf(string, ...any) }, programs int) {
	if programs < 50 {
		return
	}
	for _, what := range []string{"rotate run = 0", "rotate run = 2", "rotate run = 3", "rotate verify = 0", "rotate verify = 2", "versions retire = 2", "retired", "healed", "during: die", "during: interrupt", "move"} {
		if c.done[what] == 0 {
			t.Errorf("no program did %q", what)
		}
	}
}
