// Package providers opens a key service by the id of a key, as in kms_encrypted. It
// imports all services. To keep a program small that uses one service, import that
// service's own package instead.
package providers

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
	"github.com/kmsencrypted/kmsencrypted/providers/azure"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
)

// KeyIDVariable is the environment variable for the key id if the program passes
// none, as in kms_encrypted.
const KeyIDVariable = "KMS_KEY_ID"

// Open returns the provider for a key id:
//
//	insecure-test-key          no secret at all, for tests; also insecure-test-key/encrypt
//	vault/NAME                 Vault or OpenBao transit, configured by VAULT_ADDR and VAULT_TOKEN
//	projects/P/locations/…     Google Cloud KMS, with application default credentials
//	https://HOST/keys/NAME     an RSA key of Azure Key Vault, with the credentials of the environment
//	local:PATH, local:env:VAR  a local key file or environment variable
//	anything else              AWS KMS: an ARN, an alias ("alias/NAME") or a key id
//
// A key id of AWS has a slash or a colon only in an alias or an ARN. Open returns
// [kmsencrypted.ErrConfig] for another one, such as a misspelt "valt/NAME".
//
// For an empty id Open uses the environment variable KMS_KEY_ID. If that is empty
// too, it returns [kmsencrypted.ErrConfig]: there is no fallback to the insecure
// key.
//
// Time-outs and attempts are those of each service's own Open. Open calls the
// service only for Vault, to check the key; for the others see
// [kmsencrypted.Prober]. If the provider is an io.Closer, as Google's is, the caller
// must close it after its last use.
func Open(ctx context.Context, keyID string) (kmsencrypted.Provider, error) {
	keyID = cmp.Or(keyID, os.Getenv(KeyIDVariable))
	if keyID == "" {
		return nil, fmt.Errorf("providers: %w: no key id, and %s is empty", kmsencrypted.ErrConfig, KeyIDVariable)
	}
	for _, service := range services {
		if service.serves(keyID) {
			return service.open(ctx, keyID)
		}
	}
	if !mayBeAWS(keyID) {
		return nil, fmt.Errorf("providers: %w: key id %q names no service that is known here: want insecure-test-key, vault/NAME, projects/…, https://HOST/keys/NAME, local:PATH, local:env:VAR, or an ARN, alias/NAME or key id of AWS",
			kmsencrypted.ErrConfig, keyID)
	}
	return opened(aws.Open(ctx, keyID, aws.Options{}))
}

// mayBeAWS reports whether AWS may have such a key id, so that a misspelt id of
// another service is an error at once instead of a missing key in AWS.
func mayBeAWS(keyID string) bool {
	return strings.HasPrefix(keyID, "alias/") || strings.HasPrefix(keyID, "arn:") || !strings.ContainsAny(keyID, "/:")
}

// services are those whose key ids differ from AWS's.
var services = []struct {
	serves func(keyID string) bool
	open   func(ctx context.Context, keyID string) (kmsencrypted.Provider, error)
}{
	{is(testkey.KeyID), func(context.Context, string) (kmsencrypted.Provider, error) { return testkey.New(), nil }},
	{is(testkey.EncryptKeyID), func(context.Context, string) (kmsencrypted.Provider, error) { return testkey.EncryptOnly(), nil }},
	{begins("vault/"), func(ctx context.Context, keyID string) (kmsencrypted.Provider, error) {
		return opened(vault.Open(ctx, keyID, vault.Options{}))
	}},
	{begins("projects/"), func(ctx context.Context, keyID string) (kmsencrypted.Provider, error) {
		return opened(gcp.Open(ctx, keyID, gcp.Options{}))
	}},
	{begins("https://"), func(ctx context.Context, keyID string) (kmsencrypted.Provider, error) {
		return opened(azure.Open(ctx, keyID, azure.Options{}))
	}},
	{begins("local:env:"), func(_ context.Context, keyID string) (kmsencrypted.Provider, error) {
		return opened(local.FromEnv(strings.TrimPrefix(keyID, "local:env:")))
	}},
	{begins("local:"), func(_ context.Context, keyID string) (kmsencrypted.Provider, error) {
		return opened(local.Open(strings.TrimPrefix(keyID, "local:")))
	}},
}

func is(keyID string) func(string) bool { return func(s string) bool { return s == keyID } }

func begins(prefix string) func(string) bool {
	return func(s string) bool { return strings.HasPrefix(s, prefix) }
}

// opened prevents a nil pointer from becoming an interface that is not nil.
func opened[P kmsencrypted.Provider](p P, err error) (kmsencrypted.Provider, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}
