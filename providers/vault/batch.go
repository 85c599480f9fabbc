package vault

import (
	"context"
	"errors"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
)

// batchSize is the number of data keys in one request. Each then costs a twentieth
// of a single call. Larger batches save almost nothing more (see the benchmark),
// and other requests wait for them.
const batchSize = 250

// BatchSize returns 250.
func (p *Provider) BatchSize() int { return batchSize }

// EncryptBatch wraps all items in one request.
func (p *Provider) EncryptBatch(ctx context.Context, items []kmsencrypted.Plain) ([]kmsencrypted.Result, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	b := p.newBatch(encrypting, len(items))
	for i, plain := range items {
		b.add(i, encryptItem(plain.Plaintext(), plain.Context))
	}
	return b.run(ctx)
}

// DecryptBatch unwraps all items in one request.
func (p *Provider) DecryptBatch(ctx context.Context, items []kmsencrypted.Wrapped) ([]kmsencrypted.Result, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	b := p.newBatch(decrypting, len(items))
	for i, wrapped := range items {
		b.addCiphertext(i, wrapped)
	}
	return b.run(ctx)
}

// RewrapBatch moves all items to the newest version of the key, each under its own
// context, in one request. It returns [errors.ErrUnsupported] for another key or
// server, and for an item with a new context.
func (p *Provider) RewrapBatch(ctx context.Context, items []kmsencrypted.Rewrapping, source kmsencrypted.Provider) ([]kmsencrypted.Result, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if !p.RewrapsFrom(source) {
		return nil, errOtherKeyOrContext
	}
	b := p.newBatch(rewrapping, len(items))
	for i, item := range items {
		if sameContext(item.From.Context, item.To) {
			b.addCiphertext(i, item.From)
		} else {
			b.results[i].Err = errOtherKeyOrContext
		}
	}
	return b.run(ctx)
}

// batch collects items and their results. The server refuses a batch in which some
// items have a context and others do not, so those take two requests.
type batch struct {
	*Provider
	op                operation
	results           []kmsencrypted.Result
	withContext, bare part
}

// part is the content of one request.
type part struct {
	items  []item
	places []int // indexes in results
}

func (p *Provider) newBatch(op operation, n int) *batch {
	return &batch{Provider: p, op: op, results: make([]kmsencrypted.Result, n)}
}

func (b *batch) add(place int, i item) {
	to := &b.bare
	if i["context"] != nil {
		to = &b.withContext
	}
	to.items, to.places = append(to.items, i), append(to.places, place)
}

// addCiphertext skips a value that the server would not accept as a ciphertext.
func (b *batch) addCiphertext(place int, wrapped kmsencrypted.Wrapped) {
	if wellFormed(wrapped.Ciphertext) {
		b.add(place, ciphertextItem(wrapped.Ciphertext, wrapped.Context))
	} else {
		b.results[place].Err = b.failed(b.op, kmsencrypted.ErrDecrypt)
	}
}

func (b *batch) run(ctx context.Context) ([]kmsencrypted.Result, error) {
	for _, part := range []part{b.withContext, b.bare} {
		if err := b.request(ctx, part); err != nil {
			return nil, err
		}
	}
	return b.results, nil
}

func (b *batch) request(ctx context.Context, part part) error {
	if len(part.items) == 0 {
		return nil
	}
	request := item{
		"batch_input": part.items,
		// Otherwise one bad item turns the answer into a 400, whose body the client
		// discards.
		"partial_failure_response_code": 207,
	}
	if b.op == encrypting {
		request["type"] = neverCreate
	}
	secret, err := b.Provider.request(ctx, func() (*api.Secret, error) {
		return b.clientFor(ctx).Logical().WriteWithContext(countingAttempts(ctx), b.path(b.op), request)
	})
	if everyItemFailed(err) {
		return b.oneByOne(ctx, part)
	}
	if err != nil {
		return b.answered(ctx, b.op, err)
	}
	if secret == nil {
		return b.failed(b.op, errNoAnswer)
	}
	answers, _ := secret.Data["batch_results"].([]any)
	if len(answers) != len(part.items) {
		return b.failed(b.op, errNoAnswer)
	}
	for i, answer := range answers {
		b.results[part.places[i]] = b.result(answer)
	}
	return nil
}

// everyItemFailed recognises the answer to a batch in which every item failed, or,
// from older servers, any item: a refusal whose reasons the client discards.
func everyItemFailed(err error) bool {
	refused, ok := errors.AsType[*api.ResponseError](err)
	return ok && refused.StatusCode == 400 && len(refused.Errors) == 0
}

// oneByOne finds out why each item of a batch was refused.
func (b *batch) oneByOne(ctx context.Context, part part) error {
	for i, item := range part.items {
		if b.op == encrypting {
			item["type"] = neverCreate
		}
		r := &b.results[part.places[i]]
		if r.Bytes, r.Err = b.write(ctx, b.op, item); ctx.Err() != nil {
			return r.Err
		}
	}
	return nil
}

func (b *batch) result(answer any) kmsencrypted.Result {
	fields, _ := answer.(map[string]any)
	if text, ok := fields["error"].(string); ok && text != "" {
		return kmsencrypted.Result{Err: b.refused(b.op, text)}
	}
	value, err := b.value(b.op, fields)
	return kmsencrypted.Result{Bytes: value, Err: err}
}
