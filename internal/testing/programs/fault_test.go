package programs

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// TestFaultsAreFound puts faults into the adapter, each of which the programs must
// find, and soon.
func TestFaultsAreFound(t *testing.T) {
	for name, sabotage := range map[string]func(faulty) process{
		// An update that does not compare writes under a data key that is gone.
		"DropsTheCompare": func(f faulty) process { return dropsCompare{f} },
		// A record that takes a write for confirmed does not write it again.
		"ConfirmsTooSoon": func(f faulty) process { return confirmsTooSoon{f} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := servers()[0].open(t)
			e.sabotage = func(p process) process {
				if f, ok := p.(faulty); ok {
					return sabotage(f)
				}
				return p
			}
			const atMost = 300
			for seed := range uint64(atMost) {
				p := newProgram(e.server, seed)
				l := lost{}
				if err := e.execute(p, newCounts()); !errors.As(err, &l) {
					continue
				}
				short, why := shrunk(e, p, l)
				t.Logf("found by seed %d: %v\n%v", seed, why, short)
				if len(short.steps) > 12 {
					t.Errorf("the program still has %d steps, want at most 12", len(short.steps))
				}
				return
			}
			t.Errorf("no program of %d found it", atMost)
		})
	}
}

// faulty is a process that may do worse than it does.
type faulty interface {
	process
	// updateWithoutCompare is an update that compares nothing but the id.
	updateWithoutCompare(ctx context.Context, r record, all bool) error
	confirm(record)
}

type dropsCompare struct{ faulty }

func (d dropsCompare) update(ctx context.Context, r record, all bool) error {
	return d.updateWithoutCompare(ctx, r, all)
}

type confirmsTooSoon struct{ faulty }

func (c confirmsTooSoon) update(ctx context.Context, r record, all bool) error {
	err := c.faulty.update(ctx, r, all)
	if err == nil {
		c.confirm(r)
	}
	return err
}

func (p *viaSqlx[R, P]) confirm(r record) { p.model.Adapter().Saved(p.row(r)) }

func (p *viaSqlx[R, P]) updateWithoutCompare(ctx context.Context, r record, all bool) error {
	if err := p.model.Seal(ctx, p.row(r)); err != nil {
		return err
	}
	var set []string
	var args []any
	write := func(column string, value any) { set, args = append(set, column+" = ?"), append(args, value) }
	w, err := p.model.Adapter().Write(p.row(r))
	if err != nil {
		return err
	}
	if all {
		write("title", r.values().Title)
	}
	for _, a := range w.Set {
		write(a.Column, a.Value)
	}
	if len(set) == 0 {
		return errIdle
	}
	query := "UPDATE " + tableName + " SET " + strings.Join(set, ", ") + " WHERE " + strings.Join(p.model.Adapter().IDColumns(), " = ? AND ") + " = ?"
	result, err := p.ext().ExecContext(ctx, p.ext().Rebind(query), append(args, r.args()...)...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, errIdle)
	}
	if p.tx == nil {
		p.confirm(r)
	} else {
		p.model.Adapter().Sent(p.row(r))
	}
	return nil
}
