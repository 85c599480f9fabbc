// Package intercept calls a function in place of every request to a provider: to
// log it, to limit it, to retry it, or to fail it in a test.
//
// A type that embeds a [kmsencrypted.Provider] would lose the provider's optional
// abilities, such as batches, because the Box finds them by type assertion. [Wrap]
// returns a provider with exactly the abilities of the inner one:
//
//	counted := intercept.Wrap(provider, nil, func(ctx context.Context, call *intercept.Call, next func(context.Context) error) error {
//		err := next(ctx) // makes the request
//		requests.Add(1)
//		return err
//	})
//
// Package providers/guard uses it. A function must not log [Call.Answers]: the
// answers to unwraps are plaintext data keys.
package intercept

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
)

// OpProbe is the operation of a request made by a [kmsencrypted.Prober].
const OpProbe kmsencrypted.Op = "probe"

// Call is one request to a provider.
type Call struct {
	Op kmsencrypted.Op
	// Contexts holds the encryption context of each value in the request. It is empty
	// for a probe.
	Contexts []kmsencrypted.BoundContext
	// Answers holds the values that the last successful request returned, nil for each
	// refused item of a batch. They are the slices that the caller receives. After an
	// unwrap they are secret: do not keep, change or log them.
	Answers [][]byte
}

// Func is called instead of a request. It makes the request by calling next, any
// number of times, and returns the error for the caller. It is called by many
// goroutines at once. If next returns [errors.ErrUnsupported] for a rewrap, the
// provider made no request.
type Func func(ctx context.Context, call *Call, next func(context.Context) error) error

// Wrap returns a provider that passes every request through f. It has exactly the
// abilities of inner that package kmsencrypted names. [kmsencrypted.Ability] finds
// those that need no request, such as [kmsencrypted.WrapCounter]. mistake is an
// error in the configuration of f, or nil; creating a Box with the provider returns
// it. For a nil inner provider Wrap returns nil.
//
// Wrap calls no service. The returned provider has no Close method: the caller
// closes inner, after its last use.
func Wrap(inner kmsencrypted.Provider, mistake error, f Func) kmsencrypted.Provider {
	if inner == nil {
		return nil
	}
	return with(&provider{inner, mistake, f}, abilitiesOf(inner))
}

// provider is the part that all shapes share.
type provider struct {
	inner   kmsencrypted.Provider
	mistake error
	f       Func
}

func (p *provider) Info() kmsencrypted.KeyInfo { return p.inner.Info() }

// Unwrap returns the inner provider.
func (p *provider) Unwrap() kmsencrypted.Provider { return p.inner }

// Check returns the errors in the configuration of the function and of the inner
// provider.
func (p *provider) Check() error {
	if checked, ok := p.inner.(kmsencrypted.Checker); ok {
		return errors.Join(p.mistake, checked.Check())
	}
	return p.mistake
}

func (p *provider) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	return p.one(ctx, kmsencrypted.OpWrap, ec, func(ctx context.Context) ([]byte, error) {
		return p.inner.Encrypt(ctx, plaintext, ec)
	})
}

func (p *provider) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	return p.one(ctx, kmsencrypted.OpUnwrap, ec, func(ctx context.Context) ([]byte, error) {
		return p.inner.Decrypt(ctx, ciphertext, ec)
	})
}

// one makes a call with one value.
func (p *provider) one(ctx context.Context, op kmsencrypted.Op, ec kmsencrypted.BoundContext, request func(context.Context) ([]byte, error)) ([]byte, error) {
	call := &Call{Op: op, Contexts: []kmsencrypted.BoundContext{ec}}
	var answer []byte
	err := p.f(ctx, call, func(ctx context.Context) (err error) {
		answer, err = request(ctx)
		call.Answers = [][]byte{answer}
		return err
	})
	if err != nil {
		clear(answer)
		return nil, err
	}
	return answer, nil
}

// many makes a call with a batch.
func (p *provider) many(ctx context.Context, op kmsencrypted.Op, contexts []kmsencrypted.BoundContext, request func(context.Context) ([]kmsencrypted.Result, error)) ([]kmsencrypted.Result, error) {
	call := &Call{Op: op, Contexts: contexts}
	var results []kmsencrypted.Result
	err := p.f(ctx, call, func(ctx context.Context) (err error) {
		results, err = request(ctx)
		call.Answers = make([][]byte, len(results))
		for i, r := range results {
			call.Answers[i] = r.Bytes
		}
		return err
	})
	if err != nil {
		for _, r := range results {
			clear(r.Bytes)
		}
		return nil, err
	}
	return results, nil
}

type batch struct{ p *provider }

func (b batch) BatchSize() int { return b.p.inner.(kmsencrypted.BatchProvider).BatchSize() }

func (b batch) EncryptBatch(ctx context.Context, items []kmsencrypted.Plain) ([]kmsencrypted.Result, error) {
	contexts := make([]kmsencrypted.BoundContext, len(items))
	for i, item := range items {
		contexts[i] = item.Context
	}
	return b.p.many(ctx, kmsencrypted.OpWrap, contexts, func(ctx context.Context) ([]kmsencrypted.Result, error) {
		return b.p.inner.(kmsencrypted.BatchProvider).EncryptBatch(ctx, items)
	})
}

func (b batch) DecryptBatch(ctx context.Context, items []kmsencrypted.Wrapped) ([]kmsencrypted.Result, error) {
	contexts := make([]kmsencrypted.BoundContext, len(items))
	for i, item := range items {
		contexts[i] = item.Context
	}
	return b.p.many(ctx, kmsencrypted.OpUnwrap, contexts, func(ctx context.Context) ([]kmsencrypted.Result, error) {
		return b.p.inner.(kmsencrypted.BatchProvider).DecryptBatch(ctx, items)
	})
}

type rewrap struct{ p *provider }

func (r rewrap) Rewrap(ctx context.Context, from kmsencrypted.Wrapped, source kmsencrypted.Provider, to kmsencrypted.BoundContext) ([]byte, error) {
	return r.p.one(ctx, kmsencrypted.OpRewrap, to, func(ctx context.Context) ([]byte, error) {
		return r.p.inner.(kmsencrypted.Rewrapper).Rewrap(ctx, from, behind(source), to)
	})
}

// RewrapBatch implements [kmsencrypted.BatchRewrapper]. Every provider that
// supports batches and rewraps gets it, so it returns [errors.ErrUnsupported] if
// the inner provider cannot rewrap batches.
func (r rewrap) RewrapBatch(ctx context.Context, items []kmsencrypted.Rewrapping, source kmsencrypted.Provider) ([]kmsencrypted.Result, error) {
	inner, ok := r.p.inner.(kmsencrypted.BatchRewrapper)
	if !ok {
		return nil, fmt.Errorf("%s does not rewrap in batches: %w", r.p.Info().Provider, errors.ErrUnsupported)
	}
	contexts := make([]kmsencrypted.BoundContext, len(items))
	for i, item := range items {
		contexts[i] = item.To
	}
	return r.p.many(ctx, kmsencrypted.OpRewrap, contexts, func(ctx context.Context) ([]kmsencrypted.Result, error) {
		return inner.RewrapBatch(ctx, items, behind(source))
	})
}

// behind returns the innermost provider, so that another provider can recognise its
// own kind.
func behind(source kmsencrypted.Provider) kmsencrypted.Provider {
	for {
		front, ok := source.(kmsencrypted.Unwrapper)
		if !ok {
			return source
		}
		source = front.Unwrap()
	}
}

type probe struct{ p *provider }

func (q probe) Probe(ctx context.Context) error {
	return q.p.f(ctx, &Call{Op: OpProbe}, q.p.inner.(kmsencrypted.Prober).Probe)
}

type legacy struct{ p *provider }

func (l legacy) DecryptLegacy(ctx context.Context, column string, ec kmsencrypted.BoundContext) ([]byte, error) {
	return l.p.one(ctx, kmsencrypted.OpUnwrap, ec, func(ctx context.Context) ([]byte, error) {
		return l.p.inner.(kmsencrypted.LegacyDecrypter).DecryptLegacy(ctx, column, ec)
	})
}

type multi struct{ p *provider }

func (m multi) EncryptAll(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]kmsencrypted.Wrap, error) {
	call := &Call{Op: kmsencrypted.OpWrap, Contexts: []kmsencrypted.BoundContext{ec}}
	var wraps []kmsencrypted.Wrap
	err := m.p.f(ctx, call, func(ctx context.Context) (err error) {
		wraps, err = m.p.inner.(kmsencrypted.MultiWrapper).EncryptAll(ctx, plaintext, ec)
		call.Answers = make([][]byte, len(wraps))
		for i, w := range wraps {
			call.Answers[i] = w.Ciphertext
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return wraps, nil
}

func (m multi) DecryptAny(ctx context.Context, wraps []kmsencrypted.Wrap, ec kmsencrypted.BoundContext, check func([]byte) error) ([]byte, error) {
	return m.p.one(ctx, kmsencrypted.OpUnwrap, ec, func(ctx context.Context) ([]byte, error) {
		return m.p.inner.(kmsencrypted.MultiWrapper).DecryptAny(ctx, wraps, ec, check)
	})
}
