package operator

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
)

// program is what is done, in order. Every list of steps is a program: a step that
// makes no sense where it stands does nothing. So steps can be left out.
type program []step

// step is one thing that is done: by the application, to a key service, or typed by
// the operator.
type step struct {
	do     string // as in world.do
	table  int    // of tables
	row    int    // the how manieth of the rows there are
	tenant string
	values [2]*string // of email and phone
	n      int        // a version, or calls until something happens
	words  string     // of a command
	during *step      // by somebody else in the middle of a command
	after  int        // calls to key services, before it happens
}

func (p program) String() string {
	var b strings.Builder
	for i, s := range p {
		fmt.Fprintf(&b, "%3d. %v\n", i+1, s)
	}
	return b.String()
}

func (s step) String() string {
	text := s.do
	switch s.do {
	case "insert", "update", "foreign":
		text += fmt.Sprintf(" table %d row %d tenant %s by version %d: %s, %s", s.table, s.row, s.tenant, s.n, show(s.values[0]), show(s.values[1]))
	case "move":
		text += fmt.Sprintf(" row %d to tenant %s by version %d", s.row, s.tenant, s.n)
	case "delete":
		text += fmt.Sprintf(" table %d row %d", s.table, s.row)
	case "deny", "allow", "throttle":
		text += " tenant " + s.tenant
	case "deploy":
		text += fmt.Sprintf(" version %d of table %d", s.n, s.table)
	case "type":
		text = "ops " + s.words
	case "join":
		text = "another process: ops " + s.words
	}
	if s.during != nil {
		text += fmt.Sprintf(", and after %d calls: %v", s.after, *s.during)
	}
	return text
}

func show(value *string) string {
	if value == nil {
		return "NULL"
	}
	return fmt.Sprintf("%q", *value)
}

var tenants = []string{"a", "b", "it's"}

// generator makes the program of a seed.
type generator struct {
	*rand.Rand
	values int
}

func newProgram(s server, seed uint64) (p program) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.name))
	g := &generator{Rand: rand.New(rand.NewPCG(seed, h.Sum64()))}
	for range 4 + g.IntN(8) {
		p = append(p, g.insert())
	}
	for range 10 + g.IntN(14) {
		if g.oneIn(10) {
			p = append(p, g.rotation()...)
			continue
		}
		p = append(p, g.pick(
			g.insert, g.update, g.update, g.move, g.remove, g.deploy, g.deploy,
			g.trouble, g.allow, g.allow, g.operate, g.operate, g.operate, g.operate, g.run, g.run, g.run, g.run, g.run, g.foreign, g.retire)())
	}
	return p
}

// rotation is what the runbook tells to do, in order, and sometimes with a step left out.
func (g *generator) rotation() (p program) {
	table := g.table()
	flag := " --table " + tables[table]
	for _, tenant := range tenants {
		p = append(p, step{do: "allow", tenant: tenant})
	}
	p = append(p, step{do: "type", words: "rotate cancel" + flag}, step{do: "deploy", table: table, n: 2 + g.IntN(2)},
		step{do: "type", words: "rotate run --kind rekey --writers-are-ours" + flag}, step{do: "type", words: "rotate verify" + flag},
		step{do: "type", words: "rotate clear-journal --grace 0s" + flag}, step{do: "type", words: "versions retire 1" + flag})
	if g.oneIn(2) {
		at := g.IntN(len(p))
		p = append(p[:at], p[at+1:]...)
	}
	return p
}

func (g *generator) pick(from ...func() step) func() step { return from[g.IntN(len(from))] }

func (g *generator) oneIn(n int) bool { return g.IntN(n) == 0 }

func (g *generator) one(of ...string) string { return of[g.IntN(len(of))] }

func (g *generator) tenant() string { return tenants[g.IntN(len(tenants))] }

func (g *generator) table() int { return min(g.IntN(3), 1) }

func (g *generator) version() int { return 1 + g.IntN(3) }

func (g *generator) value() *string {
	if g.oneIn(5) {
		return nil
	}
	g.values++
	return new(fmt.Sprintf("value %d", g.values))
}

func (g *generator) insert() step {
	return step{do: "insert", table: g.table(), tenant: g.tenant(), n: g.version(), values: [2]*string{g.value(), g.value()}}
}

func (g *generator) update() step {
	return step{do: "update", table: g.table(), row: g.IntN(20), n: g.version(), values: [2]*string{g.value(), g.value()}}
}

func (g *generator) move() step {
	return step{do: "move", row: g.IntN(20), tenant: g.tenant(), n: g.version()}
}

func (g *generator) remove() step { return step{do: "delete", table: g.table(), row: g.IntN(20)} }

// foreign is a writer that had read a row before a rekey and writes a column after it.
func (g *generator) foreign() step { return step{do: "foreign", table: g.table(), row: g.IntN(20)} }

func (g *generator) deploy() step { return step{do: "deploy", table: g.table(), n: g.version()} }

func (g *generator) trouble() step {
	return step{do: g.one("deny", "deny", "throttle"), tenant: g.tenant()}
}

func (g *generator) allow() step { return step{do: "allow", tenant: g.tenant()} }

func (g *generator) retire() step {
	return step{do: "type", words: fmt.Sprintf("versions retire %d", 1+g.IntN(2)) + g.tableFlag()}
}

func (g *generator) tableFlag() string { return g.one("", " --table customers", " --table people") }

// operate types anything but a run.
func (g *generator) operate() step {
	words := g.one("rotate verify", "rotate verify", "rotate verify", "rotate heal", "rotate heal --dry-run", "rotate clear-journal --grace 0s", "rotate clear-journal --grace 0s",
		"rotate clear-journal", "rotate pause", "rotate resume", "rotate resume", "rotate cancel", "rotate status --json", "rotate status", "rotate plan --json", "rotate history",
		"rotate cost", "versions", "rotate verify --sample 50%", "rotate verify --where id<5 --table customers", "doctor")
	if !strings.Contains(words, "--table") && words != "doctor" {
		words += g.tableFlag()
	}
	return step{do: "type", words: words}
}

// run types a run, during which something may happen.
func (g *generator) run() step {
	words := "rotate run --batch " + g.one("1", "2", "3", "1000") + " --workers " + g.one("1", "1", "4")
	if g.oneIn(2) {
		words += " --kind rekey --writers-are-ours"
	}
	switch g.IntN(9) {
	case 0:
		words += " --canary"
	case 1:
		words += " --limit " + g.one("1", "3")
	case 2:
		words += " --table customers --where id<5"
	case 3:
		words += " --table customers --tenant " + g.tenant()
	case 4:
		words += " --dry-run"
	default:
		words += g.tableFlag()
	}
	if g.oneIn(6) {
		words += " --no-journal"
	}
	if g.oneIn(6) {
		words += " --kms-rate 5000"
	}
	s := step{do: "type", words: words}
	if g.oneIn(2) {
		during := g.pick(g.insert, g.update, g.update, g.update, g.move, g.remove, g.trouble, g.interrupt, g.interrupt, g.die, g.die,
			func() step { return step{do: "type", words: "rotate pause"} },
			func() step { return step{do: "type", words: "rotate cancel"} },
			func() step { return step{do: "join", words: words} },
			func() step { return step{do: "type", words: "rotate status --json"} })()
		s.during, s.after = &during, 1+g.IntN(6)
	}
	return s
}

// interrupt is Ctrl-C.
func (g *generator) interrupt() step { return step{do: "interrupt"} }

// die is the end of a process at once.
func (g *generator) die() step { return step{do: "die"} }
