package multi_test

import (
	"fmt"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"google.golang.org/grpc/codes"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/gcpkms"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
)

const ring = "projects/p/locations/global/keyRings/r/cryptoKeys/"

// clouds are two services, and what can happen to both of them at once.
type clouds struct {
	aws *awskms.Server
	gcp *gcpkms.Server
}

func newClouds(t *testing.T) clouds {
	t.Helper()
	c := clouds{awskms.New(), gcpkms.New()}
	t.Cleanup(c.aws.Close)
	t.Cleanup(c.gcp.Close)
	for _, name := range []string{"mine", "other"} {
		c.aws.AddKey(name)
		c.gcp.AddKey(ring + name)
	}
	return c
}

func (c clouds) provider(t *testing.T, name string) *multi.Provider {
	t.Helper()
	amazon, err := aws.New(c.aws.Client(), name, aws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := c.gcp.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	google, err := gcp.New(client, ring+name, gcp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return multi.New([]kmsencrypted.Provider{amazon, google}, multi.Options{CallTimeout: time.Minute}) // a busy machine serves a thousand calls at once
}

func (c clouds) inject(a awskms.Fault, g gcpkms.Fault) func(*testing.T) {
	return func(*testing.T) {
		c.aws.Inject(a)
		c.gcp.Inject(g)
	}
}

func (c clouds) rotate(t *testing.T) {
	mine, name := "mine", ring+"mine"
	if _, err := c.aws.Client().RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &mine}); err != nil {
		t.Fatal(err)
	}
	v, err := c.gcp.CreateCryptoKeyVersion(t.Context(), &kmspb.CreateCryptoKeyVersionRequest{Parent: name})
	if err == nil {
		_, err = c.gcp.UpdateCryptoKeyPrimaryVersion(t.Context(), &kmspb.UpdateCryptoKeyPrimaryVersionRequest{
			Name: name, CryptoKeyVersionId: v.Name[len(name+"/cryptoKeyVersions/"):],
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (c clouds) disable(t *testing.T) {
	mine := "mine"
	if _, err := c.aws.Client().DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &mine}); err != nil {
		t.Fatal(err)
	}
	_, err := c.gcp.UpdateCryptoKeyVersion(t.Context(), &kmspb.UpdateCryptoKeyVersionRequest{CryptoKeyVersion: &kmspb.CryptoKeyVersion{
		Name: ring + "mine/cryptoKeyVersions/1", State: kmspb.CryptoKeyVersion_DISABLED,
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// TestConformanceOverServices runs the suite over AWS and Google together: all
// that can happen to one of them happens to both.
func TestConformanceOverServices(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		PairsOnly: true, // as AWS
		Open: func(t *testing.T) providertest.Key {
			c := newClouds(t)
			return providertest.Key{
				Provider:    c.provider(t, "mine"),
				Other:       c.provider(t, "other"),
				Missing:     c.provider(t, "missing"),
				Rotate:      c.rotate,
				Disable:     c.disable,
				DenyEncrypt: c.inject(awskms.Fault{Op: "Encrypt", Error: "AccessDeniedException"}, gcpkms.Fault{Method: "Encrypt", Code: codes.PermissionDenied}),
				DenyDecrypt: c.inject(awskms.Fault{Op: "Decrypt", Error: "AccessDeniedException"}, gcpkms.Fault{Method: "Decrypt", Code: codes.PermissionDenied}),
				Throttle:    c.inject(awskms.Fault{Error: "ThrottlingException"}, gcpkms.Fault{Code: codes.ResourceExhausted}),
				Interrupt:   c.inject(awskms.Fault{Reset: true}, gcpkms.Fault{Code: codes.Unavailable}),
				Hang:        c.inject(awskms.Fault{Hang: true}, gcpkms.Fault{Hang: true}),
			}
		},
	})
}

// TestWrapsArePassedFromServiceToService: records written while one service was
// away open by either once a later pass has completed them.
func TestWrapsArePassedFromServiceToService(t *testing.T) {
	t.Parallel()
	c := newClouds(t)
	amazon, err := aws.New(c.aws.Client(), "mine", aws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := c.gcp.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	google, err := gcp.New(client, ring+"mine", gcp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := multi.New([]kmsencrypted.Provider{amazon, google}, multi.Options{Quorum: 1})
	box, err := kmsencrypted.NewBox(p)
	if err != nil {
		t.Fatal(err)
	}
	back := c.aws.Inject(awskms.Fault{Error: "KMSInternalException"})
	keys := make([]kmsencrypted.KeyToWrap, 20)
	for i := range keys {
		keys[i] = kmsencrypted.KeyToWrap{Key: kmsencrypted.NewDataKey(), Binding: kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{fmt.Sprint(i)}}}
	}
	columns := make([]kmsencrypted.WrappedKey, len(keys))
	for i, r := range box.WrapAll(t.Context(), keys) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		if missing, err := p.Missing(r.Column); err != nil || len(missing) != 1 || missing[0] != "aws us-east-1" {
			t.Errorf("Missing() = %v, %v while AWS is away", missing, err)
		}
		columns[i] = kmsencrypted.WrappedKey{Column: r.Column, Binding: keys[i].Binding}
	}
	back()
	for i, r := range box.RewrapAll(t.Context(), columns) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		if missing, err := p.Missing(r.Column); err != nil || missing != nil {
			t.Errorf("Missing() = %v, %v after the pass", missing, err)
		}
		columns[i].Column = r.Column
	}
	c.gcp.Inject(gcpkms.Fault{Code: codes.Internal})
	for i, r := range box.UnwrapAll(t.Context(), columns) {
		if r.Err != nil || !r.Key.Equal(keys[i].Key) {
			t.Errorf("column %d while Google is away: %v", i, r.Err)
		}
	}
}
