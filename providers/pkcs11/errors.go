//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/answer"
)

var (
	errNoToken = errors.New("the token is not there")
	errNoKey   = errors.New("the token has no such key")
	errSamePIN = errors.New("the token refused this PIN before, and locks itself after a few wrong ones: correct the PIN")
	errClosed  = fmt.Errorf("%w: the provider is closed", kmsencrypted.ErrConfig)
)

// failedOpening is an error of the token while it opened a wrap.
type failedOpening struct{ error }

func (f failedOpening) Unwrap() error { return f.error }

func opening(err error) error {
	if err == nil {
		return nil
	}
	return failedOpening{err}
}

// meaning is the error of this module for answers of a token.
type meaning struct {
	codes  []pkcs11.Error
	err    error
	remedy string
}

var meanings = []meaning{
	{[]pkcs11.Error{pkcs11.CKR_PIN_INCORRECT}, kmsencrypted.ErrDenied, "correct the PIN: a token locks itself after a few wrong ones"},
	{[]pkcs11.Error{pkcs11.CKR_PIN_LOCKED}, kmsencrypted.ErrDenied, "the token is locked: its security officer sets a new PIN"},
	{[]pkcs11.Error{pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_USER_PIN_NOT_INITIALIZED, pkcs11.CKR_USER_NOT_LOGGED_IN}, kmsencrypted.ErrDenied, "the token needs another PIN"},
	{[]pkcs11.Error{pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ACTION_PROHIBITED}, kmsencrypted.ErrDenied, "the key's attributes do not permit it"},
	{[]pkcs11.Error{pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_KEY_TYPE_INCONSISTENT, pkcs11.CKR_MECHANISM_PARAM_INVALID}, kmsencrypted.ErrKeyUnusable, "the token or the key does not have this mechanism"},
	{[]pkcs11.Error{pkcs11.CKR_DATA_LEN_RANGE}, kmsencrypted.ErrTooLarge, ""},
}

// damaged are the answers that a token gives for changed bytes.
var damaged = []pkcs11.Error{
	pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, pkcs11.CKR_WRAPPED_KEY_INVALID, pkcs11.CKR_WRAPPED_KEY_LEN_RANGE,
	pkcs11.CKR_SIGNATURE_INVALID,
}

// lost are the answers after which another session, or another look for the key, may
// help.
var lost = []pkcs11.Error{
	pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_KEY_HANDLE_INVALID,
	pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_OPERATION_ACTIVE,
}

func has(codes []pkcs11.Error, err error) bool {
	code, ok := errors.AsType[pkcs11.Error](err)
	return ok && slices.Contains(codes, code)
}

// answered converts an error of the token to one of the provider.
func (p *Provider) answered(ctx context.Context, op string, cause error) error {
	m := meaning{err: kmsencrypted.ErrUnavailable}
	_, isOpening := errors.AsType[failedOpening](cause)
	switch {
	case errors.Is(cause, kmsencrypted.ErrConfig), errors.Is(cause, kmsencrypted.ErrDenied):
		return p.failed(op, cause)
	case errors.Is(cause, errNotWrapped), isOpening && has(damaged, cause):
		m = meaning{err: kmsencrypted.ErrDecrypt}
	case errors.Is(cause, errNoKey):
		m = meaning{err: kmsencrypted.ErrKeyUnusable, remedy: "the token has no such key, or the PIN does not show it"}
	case errors.Is(cause, errSamePIN):
		m = meaning{err: kmsencrypted.ErrDenied}
	default:
		for _, known := range meanings {
			if has(known.codes, cause) {
				m = known
			}
		}
	}
	return answer.Means(ctx, p.failed(op, cause), m.err, m.remedy)
}

func (p *Provider) failed(op string, err error) *kmsencrypted.Error {
	return &kmsencrypted.Error{Op: op, Provider: "pkcs11", KeyID: p.uri().shown(), Err: err}
}
