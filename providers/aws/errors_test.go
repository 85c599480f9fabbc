package aws_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
)

func TestErrors(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s, s.AddKey("k"), aws.Options{})
	ciphertext := encrypt(t, p, user)
	for code, want := range map[string]error{
		"InvalidCiphertextException":  kmsencrypted.ErrDecrypt,
		"IncorrectKeyException":       kmsencrypted.ErrDecrypt,
		"AccessDeniedException":       kmsencrypted.ErrDenied,
		"ExpiredTokenException":       kmsencrypted.ErrDenied,
		"UnrecognizedClientException": kmsencrypted.ErrDenied,
		"InvalidGrantTokenException":  kmsencrypted.ErrDenied,
		"NotFoundException":           kmsencrypted.ErrKeyUnusable,
		"DisabledException":           kmsencrypted.ErrKeyUnusable,
		"KMSInvalidStateException":    kmsencrypted.ErrKeyUnusable,
		"InvalidKeyUsageException":    kmsencrypted.ErrKeyUnusable,
		"ThrottlingException":         kmsencrypted.ErrThrottled,
		"RequestLimitExceeded":        kmsencrypted.ErrThrottled,
		"KMSInternalException":        kmsencrypted.ErrUnavailable,
		"DependencyTimeoutException":  kmsencrypted.ErrUnavailable,
		"KeyUnavailableException":     kmsencrypted.ErrUnavailable,
		"ServiceUnavailableException": kmsencrypted.ErrUnavailable,
	} {
		remove := s.Inject(awskms.Fault{Error: code})
		_, err := p.Decrypt(t.Context(), ciphertext, bind(t, user))
		remove()
		fails(t, err, want)
		if !strings.Contains(err.Error(), code) {
			t.Errorf("%s: error %q does not show what the service said", code, err)
		}
	}
}

func TestCauseIsReachable(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s, "alias/nobody", aws.Options{})
	_, err := p.Encrypt(t.Context(), secret, bind(t, user))
	if _, ok := errors.AsType[*types.NotFoundException](err); !ok {
		t.Errorf("error = %v, want *types.NotFoundException behind it", err)
	}
}

// TestUnknownErrors: what has no meaning in the table passes through and is
// none of the sentinels.
func TestUnknownErrors(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s, s.AddKey("k"), aws.Options{})
	s.Inject(awskms.Fault{Error: "SomethingNewException"})
	_, err := p.Encrypt(t.Context(), secret, bind(t, user))
	if err == nil || kmsencrypted.Retryable(err) || kmsencrypted.ConcernsAll(err) || errors.Is(err, kmsencrypted.ErrDecrypt) {
		t.Errorf("error = %v, want one without a sentinel", err)
	}
}

// TestAnswersFromBetween: a proxy answers in the service's place, or nobody.
func TestAnswersFromBetween(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]error{
		http.StatusOK:                 kmsencrypted.ErrUnavailable,
		http.StatusTooManyRequests:    kmsencrypted.ErrThrottled,
		http.StatusBadGateway:         kmsencrypted.ErrUnavailable,
		http.StatusServiceUnavailable: kmsencrypted.ErrUnavailable,
	} {
		p := withTransport(t, "k", func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("<html>sorry"))}, nil
		})
		_, err := p.Encrypt(t.Context(), secret, bind(t, user))
		fails(t, err, want)
	}
	p := withTransport(t, "k", func(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") })
	_, err := p.Encrypt(t.Context(), secret, bind(t, user))
	fails(t, err, kmsencrypted.ErrUnavailable)
}

func TestMissingCredentials(t *testing.T) {
	t.Parallel()
	p := newProvider(t, kms.New(kms.Options{Region: "us-east-1", Credentials: noCredentials{}, RetryMaxAttempts: 1}), "k")
	_, err := p.Encrypt(t.Context(), secret, bind(t, user))
	if !errors.Is(err, errNoCredentials) || kmsencrypted.Retryable(err) {
		t.Errorf("error = %v, want the credentials' own, not retryable", err)
	}
}
