package branch

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Ensure makes the first key of a branch if it has none. It is what writing under a new branch does
// by itself, unless [Options].NoCreate is set; NoCreate does not concern Ensure.
//
// Several processes may call it at once: they agree on one key. It makes one call to the key
// service if there is none yet. It returns [ErrErased] for a branch that was erased.
func (p *Provider) Ensure(ctx context.Context, name Name) error {
	return p.change(ctx, name, func() error {
		rows, err := p.rows(ctx, name)
		switch {
		case err != nil:
		case len(rows) == 0:
			_, err = p.create(ctx, name)
		default:
			err = p.above(ctx, name)
		}
		return err
	})
}

// above returns ErrErased if the branch above another one was erased, which takes that along.
func (p *Provider) above(ctx context.Context, name Name) error {
	if name.Parent == "" {
		return nil
	}
	_, err := p.rows(ctx, Name{Branch: name.Parent})
	return err
}

// Renew makes a new version of a branch key, which becomes current, and returns its number. Older versions still
// open. This process uses the new one at once, others within MaxAge. Records move to it by
// a rotation to a new version of the Box that has the same provider. It returns
// [ErrMissing] for a branch without a key.
func (p *Provider) Renew(ctx context.Context, name Name) (version uint32, err error) {
	err = p.change(ctx, name, func() error {
		rows, err := p.rows(ctx, name)
		if err != nil {
			return err
		}
		current, ok := newest(rows)
		if !ok {
			return ErrMissing
		}
		version = max(current.Version, p.cache.sawVersion(name, current.Version)) + 1
		added, err := p.insert(ctx, name, version)
		if err != nil {
			return err
		}
		if added { // otherwise another process has just renewed the branch
			p.observe(ctx, Event{Kind: Renewed, Name: name, Version: version})
		}
		p.cache.sawVersion(name, version)
		p.cache.drop(entryID{name, 0})
		return nil
	})
	return version, err
}

// change checks the arguments of a change of a branch, and adds its name to the error.
func (p *Provider) change(ctx context.Context, name Name, f func() error) error {
	err := p.Check()
	if err == nil {
		err = name.check()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = f()
	}
	if err != nil {
		return p.opError(kmsencrypted.OpWrap, name, err)
	}
	return nil
}

// create makes the first version of a branch, and returns what the key store then has.
func (p *Provider) create(ctx context.Context, name Name) ([]Row, error) {
	added, err := p.insert(ctx, name, 1)
	if err != nil {
		return nil, err
	}
	if added {
		p.observe(ctx, Event{Kind: Created, Name: name, Version: 1})
	}
	rows, err := p.rows(ctx, name)
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("%w: it was made, and is not there", ErrMissing)
	}
	return rows, err
}

// insert adds a version with a new random key, unless there is one already.
func (p *Provider) insert(ctx context.Context, name Name, version uint32) (added bool, err error) {
	row := Row{Name: name, Version: version, Created: time.Now().UTC().Truncate(time.Millisecond)}
	if row.WrappedKey, err = p.wrapNew(ctx, row); err != nil {
		return false, err
	}
	err = p.access(ctx, func(ctx context.Context) (err error) {
		added, err = p.store.Insert(ctx, row)
		return err
	})
	return added, err
}

// wrapNew returns a new random key, wrapped for a row.
func (p *Provider) wrapNew(ctx context.Context, row Row) (string, error) {
	k := kmsencrypted.NewDataKey()
	defer k.Wipe()
	box := p.box
	if row.Parent != "" {
		var err error
		if box, err = kmsencrypted.NewBox(&parent{p: p}); err != nil {
			return "", err
		}
	}
	return box.Wrap(ctx, k, row.binding(p.id))
}
