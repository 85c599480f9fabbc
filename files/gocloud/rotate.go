package gocloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"gocloud.dev/blob"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// RewrapOptions configure [Bucket.Rewrap]. The zero value moves all objects.
type RewrapOptions struct {
	// Prefix limits the rewrap to objects whose key begins with it.
	Prefix string
	// Workers is the number of sidecars handled concurrently; 0 means 8.
	Workers int
	// DryRun counts the sidecars and changes nothing. Run it before and after a
	// rewrap to plan and to verify. It makes no call to the key service.
	DryRun bool
	// Progress, if not nil, is called after each sidecar with the number done. Calls
	// never overlap.
	Progress func(done, total int64)
}

// RewrapResult reports what [Bucket.Rewrap] found and did.
type RewrapResult struct {
	// Found counts the sidecars by version before the rewrap.
	Found map[int]int64
	// Unnamed counts those that were written before buckets had names: see
	// [Options.Unnamed]. They are moved too, also at the current version.
	Unnamed int64
	// Rewrapped counts the sidecars that were moved to the current version or got the
	// name of the bucket.
	Rewrapped int64
	// Failed counts those that could not be moved. Failures holds the first hundred.
	Failed   int64
	Failures []RewrapFailure
}

// RewrapFailure is an object whose key could not be moved.
type RewrapFailure struct {
	Key string // of the object
	Err error
}

const (
	defaultWorkers = 8
	keptFailures   = 100
)

// Rewrap moves the keys of all objects to the current version of the Box: another
// key, key service, context or format. It neither reads nor writes objects, so it
// works at any size and under a retention lock on them. It is safe while others
// read and write, and while another Rewrap runs: each sidecar has one file key,
// and every wrap of it is valid. It makes two calls to the key service for each
// sidecar of another version and skips current ones, so a stopped rewrap can be
// run again to continue.
//
// An object that fails is recorded and does not stop the others. Rewrap stops if
// permission is denied, ctx ends or the bucket cannot be listed; the result then
// reports what was done so far.
func (b *Bucket) Rewrap(ctx context.Context, o RewrapOptions) (RewrapResult, error) {
	if err := b.usable(); err != nil {
		return RewrapResult{}, err
	}
	if o.Workers < 0 {
		return RewrapResult{}, fmt.Errorf("gocloud: rewrap: %w: %d workers", kmsencrypted.ErrConfig, o.Workers)
	}
	if o.Workers == 0 {
		o.Workers = defaultWorkers
	}
	r := &rewrapping{bucket: b, options: o, result: RewrapResult{Found: make(map[int]int64)}}
	if o.Progress != nil {
		err := b.sidecars(ctx, o.Prefix, func(sidecar) error { r.total++; return nil })
		if err != nil {
			return r.result, located("rewrap", o.Prefix, err)
		}
	}
	err := r.run(ctx)
	return r.result, located("rewrap", o.Prefix, err)
}

// rewrapping is one call of Rewrap.
type rewrapping struct {
	bucket  *Bucket
	options RewrapOptions
	total   int64

	mu     sync.Mutex
	done   int64
	result RewrapResult
}

func (r *rewrapping) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	work := make(chan sidecar)
	var workers sync.WaitGroup
	for range r.options.Workers {
		workers.Go(func() {
			for s := range work {
				if err := r.one(ctx, s); err != nil {
					stop(err)
				}
			}
		})
	}
	err := r.bucket.sidecars(ctx, r.options.Prefix, func(s sidecar) error {
		select {
		case work <- s:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(work)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// one rewraps a sidecar. It returns only an error that stops the others.
func (r *rewrapping) one(ctx context.Context, s sidecar) error {
	version, moved, err := r.move(ctx, s)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if version != 0 {
		r.result.Found[version]++
	}
	if moved {
		r.result.Rewrapped++
	}
	if err != nil {
		r.result.Failed++
		if len(r.result.Failures) < keptFailures {
			r.result.Failures = append(r.result.Failures, RewrapFailure{s.key, err})
		}
	}
	r.done++
	if r.options.Progress != nil {
		r.options.Progress(r.done, max(r.total, r.done))
	}
	if kmsencrypted.ConcernsAll(err) {
		return err
	}
	return nil
}

func (r *rewrapping) move(ctx context.Context, s sidecar) (version int, moved bool, err error) {
	b := r.bucket
	text, err := b.getSidecar(ctx, s.key, s.id)
	if errors.Is(err, ErrNoKey) {
		return 0, false, nil // its object was deleted or overwritten since
	} else if err != nil {
		return 0, false, err
	}
	secret, ok := named(text)
	version = kmsencrypted.ColumnVersion(secret)
	if !ok {
		r.mu.Lock()
		r.result.Unnamed++
		r.mu.Unlock()
	}
	if r.options.DryRun || ok && version == b.box.Current() {
		return version, false, nil
	}
	c, err := b.decryptCard(ctx, s.key, text, s.id)
	if err != nil {
		return version, false, err
	}
	text, err = b.encryptCard(ctx, s.key, c)
	c.key.Wipe()
	if err != nil {
		return version, false, err
	}
	// If the object and its sidecar are deleted meanwhile, this sidecar is left for
	// Prune. It is not known here whether the object was deleted or is still being
	// written.
	if err := b.putSidecar(ctx, s.key, s.id, text); err != nil {
		return version, false, err
	}
	return version, true, nil
}

// sidecar is a sidecar in the list of the store.
type sidecar struct {
	key     string // of the object
	id      files.ID
	modTime time.Time
}

// sidecars calls f for each sidecar until f fails.
func (b *Bucket) sidecars(ctx context.Context, prefix string, f func(sidecar) error) error {
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	list := b.inner.List(&blob.ListOptions{Prefix: prefix})
	for {
		o, err := list.Next(ctx)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if key, id, ok := splitSidecar(o.Key); ok && len(key) >= len(prefix) {
			if err := f(sidecar{key, id, o.ModTime}); err != nil {
				return err
			}
		}
	}
}

// minPruneAge is longer than the time between writing a sidecar and finishing its
// object.
const minPruneAge = time.Hour

// Prune deletes sidecars whose object does not exist: the remains of crashes,
// refused uploads and races between writers. It keeps those written within age,
// whose object may still be being written. age must be at least an hour; a day is
// a good choice. Prune returns the number deleted. It never deletes objects.
func (b *Bucket) Prune(ctx context.Context, prefix string, age time.Duration) (deleted int64, err error) {
	if err := b.usable(); err != nil {
		return 0, err
	}
	if age < minPruneAge {
		return 0, located("prune", prefix, fmt.Errorf("%w: an age of %v, want at least %v", kmsencrypted.ErrConfig, age, minPruneAge))
	}
	return b.prune(ctx, prefix, time.Now().Add(-age))
}

func (b *Bucket) prune(ctx context.Context, prefix string, before time.Time) (deleted int64, err error) {
	var failed []error
	err = b.sidecars(ctx, prefix, func(s sidecar) error {
		if !s.modTime.Before(before) {
			return nil
		}
		now, err := b.fileID(ctx, s.key)
		switch {
		case isNotFound(err), err == nil && now != s.id:
		case err == nil, errors.Is(err, kmsencrypted.ErrNotCiphertext), errors.Is(err, kmsencrypted.ErrMalformed):
			return nil // a damaged object may be repaired one day
		default:
			failed = append(failed, located("prune", s.key, err))
			return nil
		}
		if err := b.inner.Delete(ctx, sidecarName(s.key, s.id)); isNotFound(err) {
			return nil
		} else if err != nil {
			failed = append(failed, located("prune", s.key, err))
			return nil
		}
		deleted++
		return nil
	})
	return deleted, errors.Join(append(failed, located("prune", prefix, err))...)
}
