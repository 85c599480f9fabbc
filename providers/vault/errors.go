package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/answer"
)

// errNoAnswer reports an answer without the value, from the server or from something
// in front of it.
var errNoAnswer = fmt.Errorf("%w: the answer lacks the value", kmsencrypted.ErrUnavailable)

// meaning is the error of this module for a refusal, with a remedy if one is known.
type meaning struct {
	status int    // 0 matches all
	text   string // part of a message; empty matches all messages
	err    error
	remedy string
}

// meanings maps answers; the first match counts. The server has no error codes, so
// the text says what a 400 means. The second text also occurs in a 500 of older
// servers.
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

// answered converts an error of the client to an error of the provider.
func (p *Provider) answered(ctx context.Context, op operation, cause error) error {
	var m meaning
	_, login := errors.AsType[loginError](cause)
	if r, ok := errors.AsType[*api.ResponseError](cause); ok {
		m = meaningOf(r.StatusCode, r.Errors)
		cause = refusal{r}
	} else if unanswered(cause) {
		m.err = kmsencrypted.ErrUnavailable
	}
	if login && !kmsencrypted.Retryable(m.err) {
		m = meaning{err: kmsencrypted.ErrDenied, remedy: "the login for a token failed"}
	}
	return answer.Means(ctx, p.failed(op, cause), m.err, m.remedy)
}

// unanswered reports whether there is no answer, or an unreadable one: a connection
// may end in the middle of it, and a proxy may send something else.
func unanswered(err error) bool {
	_, unsent := errors.AsType[*url.Error](err)
	_, file := errors.AsType[*fs.PathError](err) // contains a net.Error
	_, cut := errors.AsType[net.Error](err)
	_, notJSON := errors.AsType[*json.SyntaxError](err)
	return unsent || cut && !file || notJSON || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}

// refusal formats an answer of the server in one line; the client's own text has
// six.
type refusal struct{ response *api.ResponseError }

func (r refusal) Error() string {
	text := strings.Join(strings.Fields(strings.Join(r.response.Errors, " ")), " ")
	const longest = 300 // a proxy's page may be longer
	return fmt.Sprintf("status %d: %.*s", r.response.StatusCode, longest, text)
}

func (r refusal) Unwrap() error { return r.response }

// refused returns the error of one item of a batch.
func (p *Provider) refused(op operation, text string) error {
	m := meaningOf(http.StatusBadRequest, []string{text})
	return answer.Means(context.Background(), p.failed(op, errors.New(text)), m.err, m.remedy)
}

func (p *Provider) failed(op operation, err error) *kmsencrypted.Error {
	return &kmsencrypted.Error{Op: op.name, Provider: "vault", KeyID: p.keyID, Err: err}
}
