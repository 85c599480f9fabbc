package branch

import (
	"context"
	"errors"
	"sync"

	"github.com/kmsencrypted/kmsencrypted"
)

// warmAtOnce limits the branches that Warm opens at a time.
const warmAtOnce = 16

// Warm opens the current keys of branches ahead of time, so that the first requests after
// a start do not wait for the key service: one call a branch. A branch without a key
// gets one, unless [Options].NoCreate is set. The error joins those of all branches; the
// others are open all the same.
func (p *Provider) Warm(ctx context.Context, names ...Name) error {
	if err := p.Check(); err != nil {
		return err
	}
	errs := make([]error, len(names))
	room := make(chan struct{}, warmAtOnce)
	var all sync.WaitGroup
	for i, name := range names {
		room <- struct{}{}
		all.Go(func() {
			if errs[i] = p.warm(ctx, name); errs[i] != nil {
				errs[i] = p.opError(kmsencrypted.OpUnwrap, name, errs[i])
			}
			<-room
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (p *Provider) warm(ctx context.Context, name Name) error {
	if err := name.check(); err != nil {
		return err
	}
	return p.with(ctx, name, 0, func(*key) error { return nil })
}
