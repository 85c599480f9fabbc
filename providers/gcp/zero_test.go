package gcp_test

import (
	"testing"

	kms "cloud.google.com/go/kms/apiv1"
	"google.golang.org/api/option"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
)

// What nobody set up returns an error instead of a panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	zerotest.Calls(t, map[string]func() error{
		"New(nil)": func() error {
			_, err := gcp.New(nil, "projects/p/locations/l/keyRings/r/cryptoKeys/k", gcp.Options{})
			return err
		},
		"New with what is for Open": func() error {
			_, err := gcp.New(new(kms.KeyManagementClient), "projects/p/locations/l/keyRings/r/cryptoKeys/k", gcp.Options{Client: []option.ClientOption{option.WithQuotaProject("p")}})
			return err
		},
		"New of a nil client": func() error {
			_, err := gcp.New((*kms.KeyManagementClient)(nil), "projects/p/locations/l/keyRings/r/cryptoKeys/k", gcp.Options{})
			return err
		},
	})
}
