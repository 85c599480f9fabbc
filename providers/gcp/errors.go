package gcp

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/answer"
)

// meaning is the error of this module for a status of the service, with a remedy
// if one is known.
type meaning struct {
	code   codes.Code
	text   string // part of the message; empty matches all messages
	err    error
	remedy string
}

// meanings maps status codes; the first match counts. For InvalidArgument the
// message decides, because only it says that a ciphertext does not open.
var meanings = []meaning{
	{code: codes.InvalidArgument, text: "Decryption failed", err: kmsencrypted.ErrDecrypt},
	{code: codes.InvalidArgument, text: "checksum", err: kmsencrypted.ErrUnavailable},
	{code: codes.NotFound, err: kmsencrypted.ErrKeyUnusable, remedy: "check the resource name"},
	{code: codes.FailedPrecondition, err: kmsencrypted.ErrKeyUnusable, remedy: "enable or restore the key version"},
	{code: codes.PermissionDenied, err: kmsencrypted.ErrDenied,
		remedy: "grant the role Cloud KMS CryptoKey Encrypter or Decrypter on the key, and check its name"},
	{code: codes.Unauthenticated, err: kmsencrypted.ErrDenied, remedy: "the credentials are missing or have expired"},
	{code: codes.ResourceExhausted, err: kmsencrypted.ErrThrottled},
	{code: codes.Unavailable, err: kmsencrypted.ErrUnavailable},
	{code: codes.DeadlineExceeded, err: kmsencrypted.ErrUnavailable},
	{code: codes.Internal, err: kmsencrypted.ErrUnavailable},
	{code: codes.Aborted, err: kmsencrypted.ErrUnavailable},
}

// meaningOf returns the meaning of an error. It returns the zero meaning for an
// error of the client itself.
func meaningOf(err error) meaning {
	if s, ok := status.FromError(err); ok {
		for _, m := range meanings {
			if m.code == s.Code() && strings.Contains(s.Message(), m.text) {
				return m
			}
		}
	}
	if errors.Is(err, errDamaged) || errors.Is(err, context.DeadlineExceeded) { // DeadlineExceeded: callTimeout has expired
		return meaning{err: kmsencrypted.ErrUnavailable}
	}
	return meaning{}
}

// damagedAttempts is the number of attempts for a call whose values were damaged.
const damagedAttempts = 3

// attempt makes a call and converts its error to an error of the provider.
func (p *Provider) attempt(ctx context.Context, op string, call func() error) error {
	kmsencrypted.Attempted(ctx)
	err := call()
	for n := 1; n < damagedAttempts && damaged(err) && ctx.Err() == nil; n++ {
		kmsencrypted.Attempted(ctx)
		err = call()
	}
	if err != nil {
		return p.answered(ctx, op, err)
	}
	return nil
}

// damaged reports whether either side found a wrong checksum.
func damaged(err error) bool {
	s, ok := status.FromError(err)
	return errors.Is(err, errDamaged) || ok && s.Code() == codes.InvalidArgument && strings.Contains(s.Message(), "checksum")
}

// answered converts an error of the client to an error of the provider.
func (p *Provider) answered(ctx context.Context, op string, cause error) error {
	m := meaningOf(cause)
	return answer.Means(ctx, p.failed(op, cause), m.err, m.remedy)
}

func (p *Provider) failed(op string, err error) *kmsencrypted.Error {
	return &kmsencrypted.Error{Op: op, Provider: "gcp", KeyID: p.keyName, Err: err}
}
