package aws

import (
	"context"
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/answer"
)

// meaning is the error of this module for an error code of the service, with a
// remedy if one is known.
type meaning struct {
	err    error
	remedy string
}

// meanings maps error codes. Codes of throttling are the SDK's own list. The
// messages of the service are not used: they do not say why a ciphertext does not
// open.
var meanings = map[string]meaning{
	"InvalidCiphertextException": {err: kmsencrypted.ErrDecrypt},
	"IncorrectKeyException": {kmsencrypted.ErrDecrypt,
		"it was made under another key; list that key as a version of its own, or set Options.AnyKey if an alias was moved"},

	"AccessDeniedException": {kmsencrypted.ErrDenied,
		"allow kms:Encrypt, kms:Decrypt, kms:ReEncrypt* or kms:DescribeKey in the key policy or the role's policy, and check the region"},
	"ExpiredTokenException":               {kmsencrypted.ErrDenied, "the credentials have expired"},
	"UnrecognizedClientException":         {kmsencrypted.ErrDenied, "the credentials are not valid"},
	"InvalidClientTokenId":                {kmsencrypted.ErrDenied, "the credentials are not valid"},
	"InvalidSignatureException":           {kmsencrypted.ErrDenied, "check the secret key and the clock"},
	"IncompleteSignature":                 {err: kmsencrypted.ErrDenied},
	"MissingAuthenticationToken":          {err: kmsencrypted.ErrDenied},
	"MissingAuthenticationTokenException": {err: kmsencrypted.ErrDenied},
	"OptInRequired":                       {err: kmsencrypted.ErrDenied},
	"InvalidGrantTokenException":          {kmsencrypted.ErrDenied, "a grant token is not valid"},

	"NotFoundException": {kmsencrypted.ErrKeyUnusable,
		"there is no such key or alias in this account and region"},
	"InvalidArnException":      {err: kmsencrypted.ErrKeyUnusable},
	"DisabledException":        {kmsencrypted.ErrKeyUnusable, "enable it again"},
	"KMSInvalidStateException": {kmsencrypted.ErrKeyUnusable, "if it is pending deletion, cancel that before the date"},
	"InvalidKeyUsageException": {kmsencrypted.ErrKeyUnusable, "it must be a symmetric key for encryption"},

	"KMSInternalException":        {err: kmsencrypted.ErrUnavailable},
	"DependencyTimeoutException":  {err: kmsencrypted.ErrUnavailable},
	"KeyUnavailableException":     {err: kmsencrypted.ErrUnavailable},
	"ServiceUnavailable":          {err: kmsencrypted.ErrUnavailable},
	"ServiceUnavailableException": {err: kmsencrypted.ErrUnavailable},
	"InternalFailure":             {err: kmsencrypted.ErrUnavailable},
	"RequestTimeout":              {err: kmsencrypted.ErrUnavailable},
	"RequestTimeoutException":     {err: kmsencrypted.ErrUnavailable},
}

// meaningOf returns the meaning of an error of the SDK. It returns the zero
// meaning for an error before the request, such as missing credentials.
func meaningOf(err error) meaning {
	if failed, ok := errors.AsType[smithy.APIError](err); ok {
		code := failed.ErrorCode()
		if m, known := meanings[code]; known {
			return m
		}
		if _, throttled := retry.DefaultThrottleErrorCodes[code]; throttled {
			return meaning{err: kmsencrypted.ErrThrottled}
		}
	}
	// Something between this program and the service answered instead.
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		switch status := answer.HTTPStatusCode(); {
		case status == http.StatusTooManyRequests:
			return meaning{err: kmsencrypted.ErrThrottled}
		case status >= http.StatusInternalServerError:
			return meaning{err: kmsencrypted.ErrUnavailable}
		}
	}
	_, unsent := errors.AsType[*smithyhttp.RequestSendError](err)
	_, unread := errors.AsType[*smithy.DeserializationError](err) // such as a truncated answer
	if unsent || unread {
		return meaning{err: kmsencrypted.ErrUnavailable}
	}
	return meaning{}
}

// answered converts an error of the SDK to an error of the provider.
func (p *Provider) answered(ctx context.Context, op string, cause error) error {
	m := meaningOf(cause)
	return answer.Means(ctx, p.failed(op, cause), m.err, m.remedy)
}

func (p *Provider) failed(op string, err error) *kmsencrypted.Error {
	return &kmsencrypted.Error{Op: op, Provider: "aws", KeyID: p.keyID, Err: err}
}
