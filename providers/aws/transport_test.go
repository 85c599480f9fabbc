package aws_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted/providers/aws"
)

// transport answers in place of the service.
type transport func(*http.Request) (*http.Response, error)

func (f transport) Do(r *http.Request) (*http.Response, error) { return f(r) }

// withTransport returns a provider whose requests end at f.
func withTransport(t *testing.T, keyID string, f transport) *aws.Provider {
	t.Helper()
	return newProvider(t, kms.New(kms.Options{
		Region:           "us-east-1",
		Credentials:      credentials.NewStaticCredentialsProvider("id", "secret", ""),
		HTTPClient:       f,
		RetryMaxAttempts: 1,
	}), keyID)
}

func newProvider(t *testing.T, client aws.Client, keyID string) *aws.Provider {
	t.Helper()
	p, err := aws.New(client, keyID, aws.Options{})
	must(t, err)
	return p
}

var errNoCredentials = errors.New("no credentials anywhere")

type noCredentials struct{}

func (noCredentials) Retrieve(context.Context) (sdk.Credentials, error) {
	return sdk.Credentials{}, errNoCredentials
}
