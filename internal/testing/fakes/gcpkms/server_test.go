package gcpkms_test

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/gcpkms"
)

const (
	keyName = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
	first   = keyName + "/cryptoKeyVersions/1"
	second  = keyName + "/cryptoKeyVersions/2"
)

var (
	secret = []byte("a secret")
	data   = []byte("sample AAD")
)

func start(t *testing.T) (*gcpkms.Server, *kms.KeyManagementClient) {
	t.Helper()
	s := gcpkms.New()
	t.Cleanup(s.Close)
	c, err := s.Client(t.Context())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	s.AddKey(keyName)
	return s, c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err error, code codes.Code, message string) {
	t.Helper()
	if got := status.Convert(err); got.Code() != code || !strings.Contains(got.Message(), message) {
		t.Errorf("error = %v, want %s with %q", err, code, message)
	}
}

func encrypt(t *testing.T, c *kms.KeyManagementClient, name string) *kmspb.EncryptResponse {
	t.Helper()
	out, err := c.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: name, Plaintext: secret, AdditionalAuthenticatedData: data})
	must(t, err)
	return out
}

func decrypt(t *testing.T, c *kms.KeyManagementClient, ciphertext []byte) (*kmspb.DecryptResponse, error) {
	t.Helper()
	out, err := c.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: keyName, Ciphertext: ciphertext, AdditionalAuthenticatedData: data})
	if err == nil && !bytes.Equal(out.Plaintext, secret) {
		t.Errorf("Decrypt = %q, want %q", out.Plaintext, secret)
	}
	return out, err
}

func checksum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	_, c := start(t)
	for _, name := range []string{keyName, first} {
		sealed := encrypt(t, c, name)
		if sealed.Name != first || sealed.ProtectionLevel != kmspb.ProtectionLevel_SOFTWARE {
			t.Errorf("Encrypt(%s) = version %s of level %s, want %s in software", name, sealed.Name, sealed.ProtectionLevel, first)
		}
		if sealed.CiphertextCrc32C.GetValue() != checksum(sealed.Ciphertext).Value {
			t.Error("checksum of the ciphertext is wrong")
		}
		opened, err := decrypt(t, c, sealed.Ciphertext)
		must(t, err)
		if !opened.UsedPrimary || opened.PlaintextCrc32C.GetValue() != checksum(secret).Value {
			t.Errorf("Decrypt: primary %t, checksum %d", opened.UsedPrimary, opened.PlaintextCrc32C.GetValue())
		}
	}
}

// TestErrorsOfDecryption: the first two texts are from recorded sessions.
func TestErrorsOfDecryption(t *testing.T) {
	t.Parallel()
	s, c := start(t)
	s.AddKey("projects/p/locations/global/keyRings/r/cryptoKeys/other")
	sealed := encrypt(t, c, keyName).Ciphertext
	if sealed[0] != 0x0a || sealed[1] != 0x25 {
		t.Errorf("ciphertext starts % x, want 0a 25", sealed[:2])
	}
	_, err := c.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: keyName, Ciphertext: sealed, AdditionalAuthenticatedData: []byte("different AAD")})
	want(t, err, codes.InvalidArgument, "Decryption failed.")
	_, err = decrypt(t, c, []byte("malformed"))
	want(t, err, codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	_, err = c.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: "projects/p/locations/global/keyRings/r/cryptoKeys/other", Ciphertext: sealed, AdditionalAuthenticatedData: data})
	want(t, err, codes.InvalidArgument, "Decryption failed")
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 4
		_, err := decrypt(t, c, changed)
		want(t, err, codes.InvalidArgument, "Decryption failed")
		_, err = decrypt(t, c, sealed[:i])
		want(t, err, codes.InvalidArgument, "Decryption failed")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	_, c := start(t)
	_, err := c.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: first, Ciphertext: encrypt(t, c, keyName).Ciphertext})
	want(t, err, codes.InvalidArgument, "does not name a CryptoKey")
	for _, name := range []string{keyName + "2", second} {
		_, err = c.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: name, Plaintext: secret})
		want(t, err, codes.NotFound, "not found")
	}
	_, err = c.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: keyName + "2"})
	want(t, err, codes.NotFound, "not found")
}

func TestSizes(t *testing.T) {
	t.Parallel()
	_, c := start(t)
	for _, size := range []int{64 << 10, 64<<10 + 1} {
		for _, r := range []*kmspb.EncryptRequest{
			{Name: keyName, Plaintext: make([]byte, size)},
			{Name: keyName, Plaintext: secret, AdditionalAuthenticatedData: make([]byte, size)},
		} {
			_, err := c.Encrypt(t.Context(), r)
			if size > 64<<10 {
				want(t, err, codes.InvalidArgument, "64 KiB")
			} else {
				must(t, err)
			}
		}
	}
}

func TestChecksumsOfRequests(t *testing.T) {
	t.Parallel()
	_, c := start(t)
	right, wrong := func(b []byte) *wrapperspb.Int64Value { return checksum(b) }, wrapperspb.Int64(1)
	request := func(plaintext, additional *wrapperspb.Int64Value) *kmspb.EncryptRequest {
		return &kmspb.EncryptRequest{
			Name: keyName, Plaintext: secret, PlaintextCrc32C: plaintext,
			AdditionalAuthenticatedData: data, AdditionalAuthenticatedDataCrc32C: additional,
		}
	}
	out, err := c.Encrypt(t.Context(), request(right(secret), right(data)))
	must(t, err)
	if !out.VerifiedPlaintextCrc32C || !out.VerifiedAdditionalAuthenticatedDataCrc32C {
		t.Error("checksums sent are not confirmed")
	}
	bare, err := c.Encrypt(t.Context(), request(nil, nil))
	must(t, err)
	if bare.VerifiedPlaintextCrc32C || bare.VerifiedAdditionalAuthenticatedDataCrc32C {
		t.Error("checksums that were not sent are confirmed")
	}
	for _, r := range []*kmspb.EncryptRequest{request(wrong, right(data)), request(right(secret), wrong)} {
		_, err := c.Encrypt(t.Context(), r)
		want(t, err, codes.InvalidArgument, "checksum")
	}
	for _, r := range []*kmspb.DecryptRequest{
		{Name: keyName, Ciphertext: out.Ciphertext, CiphertextCrc32C: wrong, AdditionalAuthenticatedData: data},
		{Name: keyName, Ciphertext: out.Ciphertext, AdditionalAuthenticatedData: data, AdditionalAuthenticatedDataCrc32C: wrong},
	} {
		_, err := c.Decrypt(t.Context(), r)
		want(t, err, codes.InvalidArgument, "checksum")
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	s, c := start(t)
	ctx := t.Context()
	old := encrypt(t, c, keyName).Ciphertext
	_, err := c.CreateCryptoKeyVersion(ctx, &kmspb.CreateCryptoKeyVersionRequest{Parent: keyName})
	must(t, err)
	if out := encrypt(t, c, keyName); out.Name != first {
		t.Errorf("a new version became primary by itself: %s", out.Name)
	}
	_, err = c.UpdateCryptoKeyPrimaryVersion(ctx, &kmspb.UpdateCryptoKeyPrimaryVersionRequest{Name: keyName, CryptoKeyVersionId: "2"})
	must(t, err)
	if out := encrypt(t, c, keyName); out.Name != second {
		t.Errorf("Encrypt used %s, want %s", out.Name, second)
	}
	opened, err := decrypt(t, c, old)
	must(t, err)
	if opened.UsedPrimary {
		t.Error("UsedPrimary is true for an old version")
	}

	setState := func(name string, state kmspb.CryptoKeyVersion_CryptoKeyVersionState) error {
		_, err := c.UpdateCryptoKeyVersion(ctx, &kmspb.UpdateCryptoKeyVersionRequest{CryptoKeyVersion: &kmspb.CryptoKeyVersion{Name: name, State: state}})
		return err
	}
	must(t, setState(first, kmspb.CryptoKeyVersion_DISABLED))
	_, err = decrypt(t, c, old)
	want(t, err, codes.FailedPrecondition, "DISABLED")
	must(t, setState(first, kmspb.CryptoKeyVersion_ENABLED))
	_, err = decrypt(t, c, old)
	must(t, err)

	must(t, setState(second, kmspb.CryptoKeyVersion_DISABLED))
	_, err = c.Encrypt(ctx, &kmspb.EncryptRequest{Name: keyName, Plaintext: secret})
	want(t, err, codes.FailedPrecondition, "DISABLED")

	_, err = c.DestroyCryptoKeyVersion(ctx, &kmspb.DestroyCryptoKeyVersionRequest{Name: first})
	must(t, err)
	_, err = decrypt(t, c, old)
	want(t, err, codes.FailedPrecondition, "DESTROY_SCHEDULED")
	want(t, setState(first, kmspb.CryptoKeyVersion_ENABLED), codes.FailedPrecondition, "cannot go")
	_, err = c.RestoreCryptoKeyVersion(ctx, &kmspb.RestoreCryptoKeyVersionRequest{Name: first})
	must(t, err)
	_, err = c.DestroyCryptoKeyVersion(ctx, &kmspb.DestroyCryptoKeyVersionRequest{Name: first})
	must(t, err)
	must(t, s.Shred(first))
	_, err = decrypt(t, c, old)
	want(t, err, codes.FailedPrecondition, "DESTROYED")
	if s.Shred(second) == nil {
		t.Error("Shred of a version that is not scheduled succeeds")
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	_, c := start(t)
	r := &kmspb.CreateCryptoKeyRequest{
		Parent: "projects/p/locations/global/keyRings/r", CryptoKeyId: "new",
		CryptoKey: &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT},
	}
	made, err := c.CreateCryptoKey(t.Context(), r)
	must(t, err)
	got, err := c.GetCryptoKey(t.Context(), &kmspb.GetCryptoKeyRequest{Name: made.Name})
	must(t, err)
	if got.Primary.GetState() != kmspb.CryptoKeyVersion_ENABLED || got.Purpose != kmspb.CryptoKey_ENCRYPT_DECRYPT {
		t.Errorf("GetCryptoKey = %v, want an enabled primary for encryption", got)
	}
	_, err = c.CreateCryptoKey(t.Context(), r)
	want(t, err, codes.AlreadyExists, "already exists")
	_, err = c.GetCryptoKey(t.Context(), &kmspb.GetCryptoKeyRequest{Name: "projects/p"})
	want(t, err, codes.NotFound, "not found")
}

func TestCalls(t *testing.T) {
	t.Parallel()
	s, c := start(t)
	sealed := encrypt(t, c, keyName).Ciphertext
	_, err := decrypt(t, c, sealed)
	must(t, err)
	if n := len(s.Calls()); n != 2 {
		t.Errorf("counted %d calls, want 2", n)
	}
	calls := s.Calls("Decrypt")
	if len(calls) != 1 || !bytes.Equal(calls[0].Request.(*kmspb.DecryptRequest).AdditionalAuthenticatedData, data) {
		t.Errorf("Calls(Decrypt) = %v, want one with %q", calls, data)
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	s, c := start(t)
	for _, code := range []codes.Code{codes.PermissionDenied, codes.ResourceExhausted, codes.NotFound, codes.Internal} {
		remove := s.Inject(gcpkms.Fault{Method: "Encrypt", Code: code})
		_, err := c.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: keyName, Plaintext: secret})
		want(t, err, code, "injected")
		remove()
		encrypt(t, c, keyName)
	}
	// The official client retries these two itself.
	for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded} {
		before := len(s.Calls())
		s.Inject(gcpkms.Fault{Method: "Encrypt", Code: code, Times: 1})
		encrypt(t, c, keyName)
		if n := len(s.Calls()) - before; n != 2 {
			t.Errorf("%s: %d calls, want 2", code, n)
		}
	}
}

func TestHangAndDelay(t *testing.T) {
	t.Parallel()
	s, c := start(t)
	for name, fault := range map[string]gcpkms.Fault{"hang": {Hang: true}, "delay": {Delay: time.Minute}} {
		remove := s.Inject(fault)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := c.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: keyName})
		cancel()
		remove()
		if !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%s: error = %v, want deadline exceeded", name, err)
		}
	}
}

func TestDamageOnTheWay(t *testing.T) {
	t.Parallel()
	s, c := start(t)
	sealed := encrypt(t, c, keyName).Ciphertext
	checked := &kmspb.EncryptRequest{Name: keyName, Plaintext: secret, PlaintextCrc32C: checksum(secret)}

	s.Inject(gcpkms.Fault{CorruptRequest: true, Times: 1})
	_, err := c.Encrypt(t.Context(), checked)
	want(t, err, codes.InvalidArgument, "checksum")

	for name, tt := range map[string]struct {
		fault   gcpkms.Fault
		damaged func(*kmspb.EncryptResponse, *kmspb.DecryptResponse) bool
	}{
		"corrupt": {gcpkms.Fault{CorruptAnswer: true}, func(e *kmspb.EncryptResponse, d *kmspb.DecryptResponse) bool {
			return e.CiphertextCrc32C.Value != checksum(e.Ciphertext).Value && d.PlaintextCrc32C.Value != checksum(d.Plaintext).Value
		}},
		"no checksum": {gcpkms.Fault{DropChecksum: true}, func(e *kmspb.EncryptResponse, d *kmspb.DecryptResponse) bool {
			return e.CiphertextCrc32C == nil && d.PlaintextCrc32C == nil
		}},
		"not verified": {gcpkms.Fault{DropVerified: true}, func(e *kmspb.EncryptResponse, _ *kmspb.DecryptResponse) bool {
			return !e.VerifiedPlaintextCrc32C
		}},
		"other key": {gcpkms.Fault{OtherKey: true}, func(e *kmspb.EncryptResponse, _ *kmspb.DecryptResponse) bool {
			return !strings.HasPrefix(e.Name, keyName)
		}},
	} {
		remove := s.Inject(tt.fault)
		e, err := c.Encrypt(t.Context(), checked)
		must(t, err)
		d, err := c.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: keyName, Ciphertext: sealed, AdditionalAuthenticatedData: data})
		must(t, err)
		remove()
		if !tt.damaged(e, d) {
			t.Errorf("%s: answers are whole: %v, %v", name, e, d)
		}
	}
}
