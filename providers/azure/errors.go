package azure

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

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/answer"
)

// errNotWrapped reports bytes that no wrap of this provider has.
var errNotWrapped = errors.New("not a wrapped key")

// meaning is the error of this module for an answer, with a remedy if one is known.
type meaning struct {
	status int
	text   string // part of the answer; empty matches all answers
	err    error
	remedy string
}

// meanings maps answers; the first match counts. The codes of 403 are those of the
// inner error.
var meanings = []meaning{
	{http.StatusUnauthorized, "", kmsencrypted.ErrDenied, "the credentials are missing or have expired"},
	{http.StatusForbidden, "KeyDisabled", kmsencrypted.ErrKeyUnusable, "enable it again"},
	{http.StatusForbidden, "disabled", kmsencrypted.ErrKeyUnusable, "enable it again"},
	{http.StatusForbidden, "KeyExpired", kmsencrypted.ErrKeyUnusable, "it has expired: change the date or make a new version"},
	{http.StatusForbidden, "KeyNotYetValid", kmsencrypted.ErrKeyUnusable, "it may not be used yet"},
	{http.StatusForbidden, "ForbiddenByFirewall", kmsencrypted.ErrDenied, "the firewall of the vault does not admit this address"},
	{http.StatusForbidden, "", kmsencrypted.ErrDenied, "grant wrapKey or unwrapKey (role Key Vault Crypto Service Encryption User), and check the name of the vault"},
	{http.StatusNotFound, "", kmsencrypted.ErrKeyUnusable, "there is no such key or version in this vault; if it was deleted, recover it"},
	{http.StatusConflict, "", kmsencrypted.ErrKeyUnusable, "it was deleted; recover it"},
	{http.StatusRequestEntityTooLarge, "", kmsencrypted.ErrTooLarge, ""},
	{http.StatusRequestTimeout, "", kmsencrypted.ErrUnavailable, ""},
	{http.StatusTooManyRequests, "", kmsencrypted.ErrThrottled, "a vault allows some thousand requests in ten seconds"},
}

func meaningOf(status int, text string) meaning {
	for _, m := range meanings {
		if m.status == status && strings.Contains(text, m.text) {
			return m
		}
	}
	if status >= http.StatusInternalServerError {
		return meaning{err: kmsencrypted.ErrUnavailable}
	}
	return meaning{}
}

// answered converts an error of the SDK to an error of the provider.
func (p *Provider) answered(ctx context.Context, op string, cause error) error {
	var m meaning
	refused, ok := errors.AsType[*azcore.ResponseError](cause)
	switch {
	case ok && op == "decrypt" && refused.StatusCode == http.StatusBadRequest:
		m.err = kmsencrypted.ErrDecrypt // the request is well-formed, so the value is not
	case ok:
		m = meaningOf(refused.StatusCode, refused.Error())
	case errors.Is(cause, errNotWrapped):
		m.err = kmsencrypted.ErrDecrypt
	case unauthenticated(cause):
		m = meaning{err: kmsencrypted.ErrDenied, remedy: "no credentials"}
	case unanswered(cause):
		m.err = kmsencrypted.ErrUnavailable
	}
	if ok {
		cause = refusal{refused}
	}
	return answer.Means(ctx, p.failed(op, cause), m.err, m.remedy)
}

// notFound reports whether the service has no such key, or no such version of it.
func notFound(err error) bool {
	refused, ok := errors.AsType[*azcore.ResponseError](err)
	return ok && refused.StatusCode == http.StatusNotFound
}

// unauthenticated recognises an error of the credential, before any request to the
// vault.
func unauthenticated(err error) bool {
	_, ok := errors.AsType[interface {
		error
		NonRetriable()
	}](err)
	return ok
}

// unanswered reports whether there is no answer, or an unreadable one.
func unanswered(err error) bool {
	_, unsent := errors.AsType[*url.Error](err)
	_, cut := errors.AsType[net.Error](err)
	_, notJSON := errors.AsType[*json.SyntaxError](err)
	return unsent || cut || notJSON || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}

// refusal formats an answer in one line; the SDK's own text has twenty.
type refusal struct{ answer *azcore.ResponseError }

func (r refusal) Error() string {
	return fmt.Sprintf("status %d: %s", r.answer.StatusCode, r.answer.ErrorCode)
}

func (r refusal) Unwrap() error { return r.answer }
