package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/answer"
)

// errNoAnswer: the server, or something in front of it, answered without the value.
var errNoAnswer = fmt.Errorf("%w: the answer lacks the value", kmsencrypted.ErrUnavailable)

// meaning is what a refusal comes down to, with a remedy where one is known.
type meaning struct {
	status int    // 0 for all
	text   string // that a message contains; empty for all messages
	err    error
	remedy string
}

// meanings of answers; the first that fits counts. The server has no error
// codes, so what a 400 is about has to be read from its text. A server error
// with the second text is one too: so it was in older servers.
var meanings = []meaning{
	{text: "message authentication failed", err: kmsencrypted.ErrDecrypt},
	{text: "unable to decrypt", err: kmsencrypted.ErrDecrypt},
	{400, "invalid ciphertext", kmsencrypted.ErrDecrypt, ""},
	{400, "disallowed by policy (too old)", kmsencrypted.ErrKeyUnusable, "lower min_decryption_version of the key"},
	{400, "encryption key not found", kmsencrypted.ErrKeyUnusable, "check key name, mount and namespace"},
	{400, "key type " + neverCreate + " not supported", kmsencrypted.ErrKeyUnusable, "there is no such key; make it with derived=true, or check key name, mount and namespace"},
	{400, "missing 'context'", kmsencrypted.ErrContext, "a derived key needs a context"},
	{http.StatusForbidden, "", kmsencrypted.ErrDenied, "allow update on encrypt/, decrypt/ or rewrap/ and read on keys/ of the key, check its name, and whether the token has expired"},
	{http.StatusNotFound, "", kmsencrypted.ErrKeyUnusable, "check mount and namespace"},
	{http.StatusRequestEntityTooLarge, "", kmsencrypted.ErrTooLarge, ""},
	{http.StatusTooManyRequests, "", kmsencrypted.ErrThrottled, "a rate-limit quota of the server"},
	{http.StatusPreconditionFailed, "", kmsencrypted.ErrUnavailable, "a standby is behind"},
	{http.StatusServiceUnavailable, "sealed", kmsencrypted.ErrUnavailable, "unseal the server"},
}

func meaningOf(status int, messages []string) meaning {
	text := strings.Join(messages, "\n")
	for _, m := range meanings {
		if (m.status == 0 || m.status == status) && strings.Contains(text, m.text) {
			return m
		}
	}
	if status >= http.StatusInternalServerError {
		return meaning{err: kmsencrypted.ErrUnavailable}
	}
	return meaning{}
}

// answered makes the provider's error of one of the client.
func (p *Provider) answered(ctx context.Context, op operation, cause error) error {
	var m meaning
	if r, ok := errors.AsType[*api.ResponseError](cause); ok {
		m = meaningOf(r.StatusCode, r.Errors)
		cause = refusal{r}
	} else if unanswered(cause) {
		m.err = kmsencrypted.ErrUnavailable
	}
	return answer.Means(ctx, p.failed(op, cause), m.err, m.remedy)
}

// unanswered reports whether there is no answer, or one that cannot be read: a
// connection may end in the middle of it, and a proxy may send something else.
func unanswered(err error) bool {
	_, unsent := errors.AsType[*url.Error](err)
	_, cut := errors.AsType[net.Error](err)
	_, notJSON := errors.AsType[*json.SyntaxError](err)
	return unsent || cut || notJSON || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}

// refusal is an answer of the server in one line; the client's own text has six.
type refusal struct{ response *api.ResponseError }

func (r refusal) Error() string {
	text := strings.Join(strings.Fields(strings.Join(r.response.Errors, " ")), " ")
	const longest = 300 // a proxy's page may be longer
	return fmt.Sprintf("status %d: %.*s", r.response.StatusCode, longest, text)
}

func (r refusal) Unwrap() error { return r.response }

// refused makes the error of one item of a batch.
func (p *Provider) refused(op operation, text string) error {
	m := meaningOf(http.StatusBadRequest, []string{text})
	return answer.Means(context.Background(), p.failed(op, errors.New(text)), m.err, m.remedy)
}

func (p *Provider) failed(op operation, err error) *kmsencrypted.Error {
	return &kmsencrypted.Error{Op: op.name, Provider: "vault", KeyID: p.keyID, Err: err}
}
