package awskms_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

// testCase is a statement about AWS KMS. It makes its own keys.
type testCase struct {
	name string
	run  func(t *testing.T, c client)
	// differs says how moto is known to deviate from the service.
	differs string
}

var cases = []testCase{
	{name: "every name of a key works and the answer is its ARN", run: names},
	{name: "unknown names", run: unknownNames},
	{name: "round trip with a context in another order", run: roundTrip},
	{name: "an empty context is the same as none", run: emptyContext},
	{name: "whatever keeps a blob from opening is one error", run: doesNotOpen},
	{name: "the border between name and value counts", run: shiftedBorder, differs: "joins names and values without a border"},
	{name: "every changed byte is noticed", run: everyByte, differs: "reads the key id from the blob and answers AccessDeniedException when that is changed"},
	{name: "another KeyId on Decrypt", run: incorrectKey, differs: "answers AccessDeniedException"},
	{name: "sizes", run: sizes, differs: "does not limit the size of a blob"},
	{name: "ReEncrypt to another key and context", run: reEncrypt},
	{name: "data keys", run: dataKeys},
	{name: "rotation keeps old blobs readable", run: rotation},
	{name: "disabled key", run: disabledKey, differs: "lets a disabled key encrypt and decrypt"},
	{name: "key pending deletion", run: pendingDeletion, differs: "lets such a key encrypt and decrypt"},
	{name: "dry run", run: dryRun, differs: "ignores DryRun"},
	{name: "aliases move", run: aliasesMove},
}

// client makes the calls of a case and fails the test when they fail.
type client struct{ *kms.Client }

func (c client) newKey(t *testing.T) *types.KeyMetadata {
	t.Helper()
	out, err := c.CreateKey(t.Context(), &kms.CreateKeyInput{})
	must(t, err)
	return out.KeyMetadata
}

func (c client) newAlias(t *testing.T, name string, k *types.KeyMetadata) {
	t.Helper()
	_, err := c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &name, TargetKeyId: k.KeyId})
	must(t, err)
}

func (c client) encrypt(t *testing.T, keyID *string, context map[string]string) []byte {
	t.Helper()
	out, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: keyID, Plaintext: secret, EncryptionContext: context})
	must(t, err)
	return out.CiphertextBlob
}

func (c client) decrypt(t *testing.T, blob []byte, context map[string]string) error {
	t.Helper()
	out, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: context})
	if err == nil && !bytes.Equal(out.Plaintext, secret) {
		t.Errorf("Decrypt = %q, want %q", out.Plaintext, secret)
	}
	return err
}

var (
	secret  = []byte("I'm a secret message!")
	context = map[string]string{"model_name": "User", "model_id": "123"}
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if failed, ok := errors.AsType[smithy.APIError](err); !ok || failed.ErrorCode() != code {
		t.Errorf("error = %v, want %s", err, code)
	}
}

func names(t *testing.T, c client) {
	k := c.newKey(t)
	c.newAlias(t, "alias/names", k)
	aliasARN := strings.Replace(*k.Arn, "key/"+*k.KeyId, "alias/names", 1)
	for _, name := range []string{*k.KeyId, *k.Arn, "alias/names", aliasARN} {
		out, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &name, Plaintext: secret})
		must(t, err)
		if *out.KeyId != *k.Arn {
			t.Errorf("Encrypt(%s) names key %s, want %s", name, *out.KeyId, *k.Arn)
		}
	}
}

func unknownNames(t *testing.T, c client) {
	k := c.newKey(t)
	for _, name := range []string{
		"00000000-0000-4000-8000-000000000000",
		"alias/nobody",
		strings.Replace(*k.Arn, *k.KeyId, "00000000-0000-4000-8000-000000000000", 1),
		strings.Replace(*k.Arn, "key/"+*k.KeyId, "alias/nobody", 1),
	} {
		_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &name, Plaintext: secret})
		wantCode(t, err, "NotFoundException")
		_, err = c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &name})
		wantCode(t, err, "NotFoundException")
	}
}

func roundTrip(t *testing.T, c client) {
	k := c.newKey(t)
	contexts := []map[string]string{nil, context, {"ключ": "значение", "a<&>": "\u2028\"\\"}}
	for _, context := range contexts {
		blob := c.encrypt(t, k.KeyId, context)
		out, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, KeyId: k.Arn, EncryptionContext: context})
		must(t, err)
		if !bytes.Equal(out.Plaintext, secret) || *out.KeyId != *k.Arn {
			t.Errorf("Decrypt = %q under %s, want %q under %s", out.Plaintext, *out.KeyId, secret, *k.Arn)
		}
		if bytes.Equal(blob, c.encrypt(t, k.KeyId, context)) {
			t.Error("two encryptions of one value are equal")
		}
	}
}

func emptyContext(t *testing.T, c client) {
	k := c.newKey(t)
	must(t, c.decrypt(t, c.encrypt(t, k.KeyId, map[string]string{}), nil))
	must(t, c.decrypt(t, c.encrypt(t, k.KeyId, nil), map[string]string{}))
}

func doesNotOpen(t *testing.T, c client) {
	blob := c.encrypt(t, c.newKey(t).KeyId, context)
	flipped := bytes.Clone(blob)
	flipped[len(flipped)-1] ^= 1
	for _, tt := range []struct {
		name    string
		blob    []byte
		context map[string]string
	}{
		{"no context", blob, nil},
		{"one value differs", blob, map[string]string{"model_name": "User", "model_id": "124"}},
		{"case differs", blob, map[string]string{"model_name": "user", "model_id": "123"}},
		{"one pair more", blob, map[string]string{"model_name": "User", "model_id": "123", "a": "b"}},
		{"flipped bit", flipped, context},
		{"truncated", blob[:len(blob)-1], context},
		{"something else", []byte("malformed cipher message"), context},
	} {
		err := c.decrypt(t, tt.blob, tt.context)
		if _, ok := errors.AsType[*types.InvalidCiphertextException](err); !ok {
			t.Errorf("%s: error = %v, want InvalidCiphertextException", tt.name, err)
		}
	}
}

func shiftedBorder(t *testing.T, c client) {
	blob := c.encrypt(t, c.newKey(t).KeyId, map[string]string{"model_id": "123"})
	wantCode(t, c.decrypt(t, blob, map[string]string{"model_id1": "23"}), "InvalidCiphertextException")
}

func everyByte(t *testing.T, c client) {
	blob := c.encrypt(t, c.newKey(t).KeyId, context)
	for i := range blob {
		changed := bytes.Clone(blob)
		changed[i] ^= 0x10
		wantCode(t, c.decrypt(t, changed, context), "InvalidCiphertextException")
	}
}

func incorrectKey(t *testing.T, c client) {
	blob := c.encrypt(t, c.newKey(t).KeyId, nil)
	_, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, KeyId: c.newKey(t).KeyId})
	wantCode(t, err, "IncorrectKeyException")
}

func sizes(t *testing.T, c client) {
	k := c.newKey(t)
	for size, code := range map[int]string{0: "ValidationException", 1: "", 4096: "", 4097: "ValidationException"} {
		_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: k.KeyId, Plaintext: make([]byte, size)})
		if code != "" {
			wantCode(t, err, code)
		} else {
			must(t, err)
		}
	}
	wantCode(t, c.decrypt(t, make([]byte, 6145), nil), "ValidationException")
	wantCode(t, c.decrypt(t, []byte{}, nil), "ValidationException")
}

func reEncrypt(t *testing.T, c client) {
	from, to := c.newKey(t), c.newKey(t)
	blob := c.encrypt(t, from.KeyId, context)
	in := &kms.ReEncryptInput{
		CiphertextBlob:               blob,
		SourceEncryptionContext:      context,
		DestinationKeyId:             to.KeyId,
		DestinationEncryptionContext: map[string]string{"tenant": "acme"},
	}
	out, err := c.ReEncrypt(t.Context(), in)
	must(t, err)
	if *out.SourceKeyId != *from.Arn || *out.KeyId != *to.Arn {
		t.Errorf("ReEncrypt went from %s to %s, want %s to %s", *out.SourceKeyId, *out.KeyId, *from.Arn, *to.Arn)
	}
	must(t, c.decrypt(t, out.CiphertextBlob, map[string]string{"tenant": "acme"}))
	wantCode(t, c.decrypt(t, out.CiphertextBlob, context), "InvalidCiphertextException")

	in.SourceEncryptionContext = nil
	_, err = c.ReEncrypt(t.Context(), in)
	wantCode(t, err, "InvalidCiphertextException")
}

func dataKeys(t *testing.T, c client) {
	k := c.newKey(t)
	out, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: types.DataKeySpecAes256, EncryptionContext: context})
	must(t, err)
	opened, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: context})
	must(t, err)
	if len(out.Plaintext) != 32 || !bytes.Equal(opened.Plaintext, out.Plaintext) {
		t.Errorf("Decrypt of a data key gives %d bytes that differ from the %d generated", len(opened.Plaintext), len(out.Plaintext))
	}
	sized, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: k.KeyId, NumberOfBytes: aws.Int32(77)})
	must(t, err)
	if len(sized.Plaintext) != 77 {
		t.Errorf("GenerateDataKey of 77 bytes gives %d", len(sized.Plaintext))
	}
	blind, err := c.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: k.KeyId, KeySpec: types.DataKeySpecAes128})
	must(t, err)
	opened, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blind.CiphertextBlob})
	must(t, err)
	if len(opened.Plaintext) != 16 {
		t.Errorf("data key has %d bytes, want 16", len(opened.Plaintext))
	}
	_, err = c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: k.KeyId})
	wantCode(t, err, "ValidationException")
}

func rotation(t *testing.T, c client) {
	k := c.newKey(t)
	old := c.encrypt(t, k.KeyId, context)
	_, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: k.KeyId})
	must(t, err)
	must(t, c.decrypt(t, old, context))
	must(t, c.decrypt(t, c.encrypt(t, k.KeyId, context), context))
	out, err := c.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: k.KeyId})
	must(t, err)
	if len(out.Rotations) != 1 || out.Rotations[0].RotationType != types.RotationTypeOnDemand {
		t.Errorf("ListKeyRotations = %+v, want one on demand", out.Rotations)
	}
}

// unusable checks that neither direction works with a key in the state that change brings about.
func unusable(t *testing.T, c client, state types.KeyState, code string, change func(k *types.KeyMetadata) error) {
	k, other := c.newKey(t), c.newKey(t)
	blob := c.encrypt(t, k.KeyId, nil)
	must(t, change(k))
	described, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: k.KeyId})
	must(t, err)
	if described.KeyMetadata.KeyState != state || described.KeyMetadata.Enabled {
		t.Errorf("KeyState = %s, enabled %t, want %s", described.KeyMetadata.KeyState, described.KeyMetadata.Enabled, state)
	}
	wantCode(t, c.decrypt(t, blob, nil), code)
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: k.KeyId, Plaintext: secret})
	wantCode(t, err, code)
	_, err = c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: other.KeyId})
	wantCode(t, err, code)
	_, err = c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: k.KeyId})
	wantCode(t, err, code)
}

func disabledKey(t *testing.T, c client) {
	unusable(t, c, types.KeyStateDisabled, "DisabledException", func(k *types.KeyMetadata) error {
		_, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: k.KeyId})
		return err
	})
	k := c.newKey(t)
	blob := c.encrypt(t, k.KeyId, nil)
	_, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: k.KeyId})
	must(t, err)
	_, err = c.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: k.KeyId})
	must(t, err)
	must(t, c.decrypt(t, blob, nil))
}

func pendingDeletion(t *testing.T, c client) {
	unusable(t, c, types.KeyStatePendingDeletion, "KMSInvalidStateException", func(k *types.KeyMetadata) error {
		_, err := c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: aws.Int32(7)})
		return err
	})
	k := c.newKey(t)
	_, err := c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId})
	must(t, err)
	_, err = c.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: k.KeyId})
	must(t, err)
	_, err = c.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: k.KeyId})
	must(t, err)
	c.encrypt(t, k.KeyId, nil)
}

func dryRun(t *testing.T, c client) {
	k := c.newKey(t)
	blob := c.encrypt(t, k.KeyId, context)
	_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: k.KeyId, Plaintext: secret, DryRun: aws.Bool(true)})
	wantCode(t, err, "DryRunOperationException")
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: context, DryRun: aws.Bool(true)})
	wantCode(t, err, "DryRunOperationException")
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, DryRun: aws.Bool(true)})
	wantCode(t, err, "InvalidCiphertextException")
	_, err = c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: types.DataKeySpecAes256, DryRun: aws.Bool(true)})
	wantCode(t, err, "DryRunOperationException")
}

func aliasesMove(t *testing.T, c client) {
	first, second := c.newKey(t), c.newKey(t)
	name := aws.String("alias/moves")
	c.newAlias(t, *name, first)
	blob := c.encrypt(t, name, nil)
	_, err := c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: name, TargetKeyId: second.KeyId})
	wantCode(t, err, "AlreadyExistsException")
	_, err = c.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: name, TargetKeyId: second.KeyId})
	must(t, err)
	must(t, c.decrypt(t, blob, nil))
	listed, err := c.ListAliases(t.Context(), &kms.ListAliasesInput{})
	must(t, err)
	i := slices.IndexFunc(listed.Aliases, func(a types.AliasListEntry) bool { return *a.AliasName == *name })
	if i < 0 || *listed.Aliases[i].TargetKeyId != *second.KeyId {
		t.Errorf("ListAliases = %+v, want %s on the second key", listed.Aliases, *name)
	}
	_, err = c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: name})
	must(t, err)
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: name, Plaintext: secret})
	wantCode(t, err, "NotFoundException")
}
