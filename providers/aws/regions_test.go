package aws_test

import (
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
)

const replicaRegion = "eu-west-1"

// region is one of two with a multi-region key between them.
type region struct {
	server *awskms.Server
	arn    string // of the key in this region
}

func regions(t *testing.T) (primary, replica region) {
	t.Helper()
	primary.server = start(t)
	replica.server = primary.server.InRegion(replicaRegion)
	t.Cleanup(replica.server.Close)
	created, err := primary.server.Client().CreateKey(t.Context(), &kms.CreateKeyInput{MultiRegion: sdk.Bool(true)})
	must(t, err)
	primary.arn = *created.KeyMetadata.Arn
	replicated, err := primary.server.Client().ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: &primary.arn, ReplicaRegion: sdk.String(replicaRegion)})
	must(t, err)
	replica.arn = *replicated.ReplicaKeyMetadata.Arn
	return primary, replica
}

// TestMultiRegionKey: what one region wrote opens in the other under the key that
// is pinned there, which has an ARN of its own. A key of one region does not.
func TestMultiRegionKey(t *testing.T) {
	t.Parallel()
	primary, replica := regions(t)
	for _, way := range []struct{ from, to region }{{primary, replica}, {replica, primary}} {
		ciphertext := encrypt(t, open(t, way.from.server, way.from.arn, aws.Options{}), user)
		pinned := open(t, way.to.server, way.to.arn, aws.Options{})
		opens(t, pinned, ciphertext, user)
		opens(t, open(t, way.to.server, way.to.arn, aws.Options{AnyKey: true}), ciphertext, user)
		if sent := way.to.server.Calls("Decrypt")[0].Body["KeyId"]; sent != way.to.arn {
			t.Errorf("Decrypt has KeyId %v, want the ARN of its own region %s", sent, way.to.arn)
		}
		_, err := pinned.Decrypt(t.Context(), ciphertext, bind(t, kmsencrypted.Context{"model_id": 124}))
		fails(t, err, kmsencrypted.ErrDecrypt)
	}
	single := encrypt(t, open(t, primary.server, primary.server.AddKey("single"), aws.Options{}), user)
	for _, options := range []aws.Options{{}, {AnyKey: true}} {
		_, err := open(t, replica.server, replica.arn, options).Decrypt(t.Context(), single, bind(t, user))
		fails(t, err, kmsencrypted.ErrDecrypt)
	}
	_, err := aws.New(replica.server.Client(), primary.arn, aws.Options{})
	fails(t, err, kmsencrypted.ErrConfig) // the ARN of another region
}

// TestMultiRegionRecord: a native key column names the region that wrote it in
// its wrap. That is a hint, and keeps no other region from opening or rewrapping it.
func TestMultiRegionRecord(t *testing.T) {
	t.Parallel()
	primary, replica := regions(t)
	for i, format := range []kmsencrypted.Format{kmsencrypted.Native, kmsencrypted.Ruby} {
		in := func(r region) *field.Model[customer] {
			return customers(t, 1, map[int]kmsencrypted.Version{1: {Provider: open(t, r.server, r.arn, aws.Options{}), Format: format}})
		}
		row := customer{ID: 7, Email: field.New("ada@example.org")}
		must(t, in(primary).Seal(t.Context(), &row))
		row = stored(t, row)
		_, err := primary.server.Client().DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &primary.arn})
		must(t, err)
		away := in(replica)
		must(t, away.Rewrap(t.Context(), &row))
		if n := len(replica.server.Calls("ReEncrypt")); n != i+1 {
			t.Error("the rewrap in the other region left the service")
		}
		row = stored(t, row)
		must(t, away.Open(t.Context(), &row))
		if email := row.Email.Must(); email != "ada@example.org" {
			t.Errorf("%s: email = %q after a rewrap in the other region", format, email)
		}
		_, err = primary.server.Client().EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &primary.arn})
		must(t, err)
		row = stored(t, row)
		must(t, in(primary).Open(t.Context(), &row))
	}
}
