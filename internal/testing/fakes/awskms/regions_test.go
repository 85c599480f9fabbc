package awskms_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
)

const elsewhere = "eu-west-1"

// regions are two of one account, with a multi-region key in both.
func regions(t *testing.T) (here, there client, primary, replica *types.KeyMetadata) {
	t.Helper()
	s := start(t)
	other := s.InRegion(elsewhere)
	t.Cleanup(other.Close)
	here, there = client{s.Client()}, client{other.Client()}
	created, err := here.CreateKey(t.Context(), &kms.CreateKeyInput{MultiRegion: aws.Bool(true)})
	must(t, err)
	replicated, err := here.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: created.KeyMetadata.KeyId, ReplicaRegion: aws.String(elsewhere)})
	must(t, err)
	return here, there, created.KeyMetadata, replicated.ReplicaKeyMetadata
}

func (c client) opens(t *testing.T, keyID *string, blob []byte) *kms.DecryptOutput {
	t.Helper()
	out, err := c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: keyID, CiphertextBlob: blob, EncryptionContext: context})
	must(t, err)
	if !bytes.Equal(out.Plaintext, secret) {
		t.Errorf("Decrypt = %q, want the secret", out.Plaintext)
	}
	return out
}

func TestMultiRegionKeys(t *testing.T) {
	t.Parallel()
	here, there, primary, replica := regions(t)
	if !strings.HasPrefix(*primary.KeyId, "mrk-") || *replica.KeyId != *primary.KeyId {
		t.Errorf("key ids = %s, %s, want one that begins with mrk-", *primary.KeyId, *replica.KeyId)
	}
	if want := strings.Replace(*primary.Arn, awskms.Region, elsewhere, 1); *replica.Arn != want || want == *primary.Arn {
		t.Errorf("replica = %s, want %s", *replica.Arn, want)
	}
	for from, to := range map[client]client{here: there, there: here} {
		blob := from.encrypt(t, primary.KeyId, context)
		answers := to.opens(t, nil, blob)
		if mine, err := to.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: primary.KeyId}); err != nil || *answers.KeyId != *mine.KeyMetadata.Arn {
			t.Errorf("opened by %s, want the key of the region that was asked: %v", *answers.KeyId, err)
		}
		to.opens(t, primary.KeyId, blob)
	}
	there.opens(t, replica.Arn, here.encrypt(t, primary.Arn, context))
	_, err := there.Decrypt(t.Context(), &kms.DecryptInput{KeyId: primary.Arn, CiphertextBlob: here.encrypt(t, primary.Arn, context), EncryptionContext: context})
	wantCode(t, err, "NotFoundException") // a region knows its own ARNs only
}

func TestSingleRegionKeyStaysInItsRegion(t *testing.T) {
	t.Parallel()
	here, there, _, replica := regions(t)
	single := here.newKey(t)
	if *single.MultiRegion || single.MultiRegionConfiguration != nil {
		t.Errorf("a key of one region is described as %+v", single)
	}
	blob := here.encrypt(t, single.KeyId, context)
	_, err := there.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: context})
	wantCode(t, err, "InvalidCiphertextException")
	_, err = there.Decrypt(t.Context(), &kms.DecryptInput{KeyId: replica.Arn, CiphertextBlob: blob, EncryptionContext: context})
	wantCode(t, err, "InvalidCiphertextException")
	_, err = here.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: single.KeyId, ReplicaRegion: aws.String(elsewhere)})
	wantCode(t, err, "UnsupportedOperationException")
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	here, there, primary, replica := regions(t)
	for c, kind := range map[client]types.MultiRegionKeyType{here: types.MultiRegionKeyTypePrimary, there: types.MultiRegionKeyTypeReplica} {
		out, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: primary.KeyId})
		must(t, err)
		set := out.KeyMetadata.MultiRegionConfiguration
		if set.MultiRegionKeyType != kind || *set.PrimaryKey.Arn != *primary.Arn || len(set.ReplicaKeys) != 1 || *set.ReplicaKeys[0].Region != elsewhere {
			t.Errorf("MultiRegionConfiguration = %+v, want %s", set, kind)
		}
	}
	_, err := here.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: primary.KeyId, ReplicaRegion: aws.String(elsewhere)})
	wantCode(t, err, "AlreadyExistsException")
	_, err = there.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: replica.KeyId, ReplicaRegion: aws.String(awskms.Region)})
	wantCode(t, err, "UnsupportedOperationException")

	old := here.encrypt(t, primary.KeyId, context)
	_, err = there.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: replica.KeyId})
	wantCode(t, err, "UnsupportedOperationException")
	_, err = here.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: primary.KeyId})
	must(t, err)
	now := there.opens(t, replica.Arn, here.encrypt(t, primary.KeyId, context))
	if before := there.opens(t, replica.Arn, old); *before.KeyMaterialId == *now.KeyMaterialId {
		t.Error("the replica has not got the new key material")
	}

	// States are each key's own, but a primary waits for its replicas.
	_, err = here.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: primary.KeyId})
	must(t, err)
	there.opens(t, replica.Arn, old)
	deleted, err := here.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: primary.KeyId})
	must(t, err)
	if deleted.KeyState != types.KeyStatePendingReplicaDeletion || deleted.DeletionDate != nil {
		t.Errorf("deletion of a primary with a replica = %+v", deleted)
	}
	there.opens(t, replica.Arn, there.encrypt(t, replica.Arn, context))
}
