package gcp_test

import (
	"errors"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/gcpkms"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/kmsvectors"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
)

const (
	ring     = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/"
	keyName  = ring + "mine"
	otherKey = ring + "other"
)

var (
	secret = []byte("32 bytes that no error may hold!")
	user   = kmsencrypted.Context{"model_name": "User", "model_id": 123}
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fails(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error = %v, want %v", err, want)
	}
}

func start(t *testing.T) *gcpkms.Server {
	t.Helper()
	s := gcpkms.New()
	t.Cleanup(s.Close)
	s.AddKey(keyName)
	s.AddKey(otherKey)
	return s
}

func open(t *testing.T, s *gcpkms.Server, name string, options gcp.Options) *gcp.Provider {
	t.Helper()
	client, err := s.Client(t.Context())
	must(t, err)
	t.Cleanup(func() { client.Close() })
	p, err := gcp.New(client, name, options)
	must(t, err)
	return p
}

func bind(t *testing.T, ec kmsencrypted.EncryptionContext) kmsencrypted.BoundContext {
	t.Helper()
	bound, err := kmsencrypted.Bind(ec)
	must(t, err)
	return bound
}

func encrypt(t *testing.T, p *gcp.Provider) []byte {
	t.Helper()
	ciphertext, err := p.Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	return ciphertext
}

func opens(t *testing.T, p *gcp.Provider, ciphertext []byte) {
	t.Helper()
	plaintext, err := p.Decrypt(t.Context(), ciphertext, bind(t, user))
	if err != nil || string(plaintext) != string(secret) {
		t.Errorf("Decrypt = %q, %v, want the secret", plaintext, err)
	}
}

func TestProvider(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		MaxPlaintext: gcp.MaxPlaintext,
		Open: func(t *testing.T) providertest.Key {
			s := start(t)
			client, err := s.Client(t.Context())
			must(t, err)
			t.Cleanup(func() { client.Close() })
			fault := func(f gcpkms.Fault) func(*testing.T) {
				return func(*testing.T) { s.Inject(f) }
			}
			return providertest.Key{
				Provider: open(t, s, keyName, gcp.Options{}),
				Other:    open(t, s, otherKey, gcp.Options{}),
				Missing:  open(t, s, ring+"missing", gcp.Options{}),
				Rotate: func(t *testing.T) {
					v, err := client.CreateCryptoKeyVersion(t.Context(), &kmspb.CreateCryptoKeyVersionRequest{Parent: keyName})
					must(t, err)
					_, number, _ := strings.Cut(v.Name, "/cryptoKeyVersions/")
					_, err = client.UpdateCryptoKeyPrimaryVersion(t.Context(), &kmspb.UpdateCryptoKeyPrimaryVersionRequest{
						Name: keyName, CryptoKeyVersionId: number,
					})
					must(t, err)
				},
				Disable: func(t *testing.T) {
					_, err := client.UpdateCryptoKeyVersion(t.Context(), &kmspb.UpdateCryptoKeyVersionRequest{
						CryptoKeyVersion: &kmspb.CryptoKeyVersion{
							Name:  keyName + "/cryptoKeyVersions/1",
							State: kmspb.CryptoKeyVersion_DISABLED,
						},
					})
					must(t, err)
				},
				DenyEncrypt: fault(gcpkms.Fault{Method: "Encrypt", Code: codes.PermissionDenied}),
				DenyDecrypt: fault(gcpkms.Fault{Method: "Decrypt", Code: codes.PermissionDenied}),
				Throttle:    fault(gcpkms.Fault{Code: codes.ResourceExhausted}),
				Interrupt:   fault(gcpkms.Fault{Code: codes.Unavailable}),
				Hang:        fault(gcpkms.Fault{Hang: true}),
			}
		},
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "alias/mine", "projects/p", keyName + "/", keyName + "/cryptoKeyVersions/1", " " + keyName} {
		if p, err := gcp.New(nil, name, gcp.Options{}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("New(%q) = %v, %v, want %v", name, p, err, kmsencrypted.ErrConfig)
		}
	}
	_, err := gcp.New(nil, keyName, gcp.Options{LegacyKeys: []string{"my-key"}})
	fails(t, err, kmsencrypted.ErrConfig)
}

func TestInfo(t *testing.T) {
	t.Parallel()
	want := kmsencrypted.KeyInfo{Provider: "gcp", KeyID: keyName, Tag: "gcp europe-west1"}
	if got := open(t, start(t), keyName, gcp.Options{}).Info(); got != want {
		t.Errorf("Info() = %+v, want %+v", got, want)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	s := start(t)
	options := []option.ClientOption{
		option.WithEndpoint(s.Addr),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
	p, err := gcp.Open(t.Context(), keyName, gcp.Options{Client: options})
	must(t, err)
	ciphertext := encrypt(t, p)
	opens(t, p, ciphertext)
	must(t, p.Close())
	if _, err := p.Decrypt(t.Context(), ciphertext, bind(t, user)); err == nil {
		t.Error("Decrypt succeeds after Close")
	}
	_, err = gcp.Open(t.Context(), "mine", gcp.Options{Client: options})
	fails(t, err, kmsencrypted.ErrConfig)
	_, err = gcp.Open(t.Context(), keyName, gcp.Options{Client: []option.ClientOption{option.WithCredentialsFile("none.json")}})
	fails(t, err, kmsencrypted.ErrConfig)
}

// TestAdditionalData: no context and an empty one differ by two bytes.
func TestAdditionalData(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s, keyName, gcp.Options{})
	for _, tt := range []struct {
		ec   kmsencrypted.EncryptionContext
		want string
	}{
		{nil, ""}, {kmsencrypted.Context{}, "{}"}, {user, `{"model_id":"123","model_name":"User"}`}, {kmsencrypted.TextContext("acme"), "acme"},
	} {
		_, err := p.Encrypt(t.Context(), secret, bind(t, tt.ec))
		must(t, err)
		calls := s.Calls("Encrypt")
		request := calls[len(calls)-1].Request.(*kmspb.EncryptRequest)
		if got := string(request.AdditionalAuthenticatedData); got != tt.want {
			t.Errorf("additional data of %v = %q, want %q", tt.ec, got, tt.want)
		}
		if request.PlaintextCrc32C == nil || (request.AdditionalAuthenticatedDataCrc32C != nil) != (tt.ec != nil) {
			t.Errorf("checksums of %v: %v, %v", tt.ec, request.PlaintextCrc32C, request.AdditionalAuthenticatedDataCrc32C)
		}
	}
}

// TestDamage: whatever happens to a value on the way is noticed, tried again,
// and in the end an error that can be retried.
func TestDamage(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s, keyName, gcp.Options{})
	sealed := encrypt(t, p)
	for _, tt := range []struct {
		name          string
		fault         gcpkms.Fault
		alsoOnDecrypt bool
	}{
		{"request", gcpkms.Fault{CorruptRequest: true}, true},
		{"answer", gcpkms.Fault{CorruptAnswer: true}, true},
		{"no checksum", gcpkms.Fault{DropChecksum: true}, true},
		{"not confirmed", gcpkms.Fault{DropVerified: true}, false},
		{"another key", gcpkms.Fault{OtherKey: true}, false},
	} {
		remove := s.Inject(tt.fault)
		_, err := p.Encrypt(t.Context(), secret, bind(t, user))
		fails(t, err, kmsencrypted.ErrUnavailable)
		_, err = p.Decrypt(t.Context(), sealed, bind(t, user))
		if tt.alsoOnDecrypt {
			fails(t, err, kmsencrypted.ErrUnavailable)
		} else {
			must(t, err)
		}
		remove()

		tt.fault.Times = 2
		s.Inject(tt.fault)
		opens(t, p, encrypt(t, p))
	}
}

// TestQuota: the official client gives up at once when a quota is used up.
func TestQuota(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s, keyName, gcp.Options{})
	s.Inject(gcpkms.Fault{Code: codes.ResourceExhausted, Times: 3})
	encrypt(t, p)
	if n := len(s.Calls("Encrypt")); n != 4 {
		t.Errorf("a call that was throttled three times made %d requests, want 4", n)
	}
	s.Inject(gcpkms.Fault{Code: codes.ResourceExhausted})
	_, err := p.Encrypt(t.Context(), secret, bind(t, user))
	fails(t, err, kmsencrypted.ErrThrottled)
	if n := len(s.Calls("Encrypt")); n != 8 {
		t.Errorf("a call that is throttled for good made %d requests, want 4", n-4)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s, keyName, gcp.Options{})
	sealed := encrypt(t, p)
	for code, want := range map[codes.Code]error{
		codes.NotFound:           kmsencrypted.ErrKeyUnusable,
		codes.FailedPrecondition: kmsencrypted.ErrKeyUnusable,
		codes.PermissionDenied:   kmsencrypted.ErrDenied,
		codes.Unauthenticated:    kmsencrypted.ErrDenied,
		codes.ResourceExhausted:  kmsencrypted.ErrThrottled,
		codes.Unavailable:        kmsencrypted.ErrUnavailable,
		codes.DeadlineExceeded:   kmsencrypted.ErrUnavailable,
		codes.Internal:           kmsencrypted.ErrUnavailable,
		codes.Aborted:            kmsencrypted.ErrUnavailable,
	} {
		remove := s.Inject(gcpkms.Fault{Code: code})
		_, err := p.Decrypt(t.Context(), sealed, bind(t, user))
		remove()
		fails(t, err, want)
		if !strings.Contains(err.Error(), "injected by the test") {
			t.Errorf("%s: error %q does not show what the service said", code, err)
		}
	}
	s.Inject(gcpkms.Fault{Code: codes.InvalidArgument})
	_, err := p.Decrypt(t.Context(), sealed, bind(t, user))
	if err == nil || errors.Is(err, kmsencrypted.ErrDecrypt) || kmsencrypted.Retryable(err) || kmsencrypted.ConcernsAll(err) {
		t.Errorf("error = %v, want one without a sentinel", err)
	}
}

// legacyColumn is a column as kms_encrypted 0.3 wrote it.
func legacyColumn(keyPath string, ciphertext []byte) string {
	return "$gc$" + rubycompat.Encode64([]byte(keyPath)) + "$" + rubycompat.Encode64(ciphertext)
}

func TestLegacy(t *testing.T) {
	t.Parallel()
	s := start(t)
	mine, other := open(t, s, keyName, gcp.Options{}), open(t, s, otherKey, gcp.Options{})
	ec := bind(t, user)
	for _, tt := range []struct {
		name   string
		column string
		keys   []string
		want   error
	}{
		{"configured key", legacyColumn("p/europe-west1/r/mine/1", encrypt(t, mine)), nil, nil},
		{"without version", legacyColumn("p/europe-west1/r/mine", encrypt(t, mine)), nil, nil},
		{"listed key", legacyColumn("p/europe-west1/r/other/7", encrypt(t, other)), []string{otherKey}, nil},
		{"key that is not listed", legacyColumn("p/europe-west1/r/other/7", encrypt(t, other)), nil, kmsencrypted.ErrConfig},
		{"key and ciphertext do not match", legacyColumn("p/europe-west1/r/mine/1", encrypt(t, other)), nil, kmsencrypted.ErrDecrypt},
		{"too few parts", legacyColumn("p/europe-west1/r", nil), nil, kmsencrypted.ErrMalformed},
		{"empty part", legacyColumn("p/europe-west1//mine", nil), nil, kmsencrypted.ErrMalformed},
		{"no ciphertext field", "$gc$cC9lL3IvaA==", nil, kmsencrypted.ErrMalformed},
		{"no mark", "AAAA", nil, kmsencrypted.ErrMalformed},
		{"empty ciphertext", legacyColumn("p/europe-west1/r/mine/1", nil), nil, kmsencrypted.ErrDecrypt},
	} {
		p := open(t, s, keyName, gcp.Options{LegacyKeys: tt.keys})
		before := len(s.Calls("Decrypt"))
		plaintext, err := p.DecryptLegacy(t.Context(), tt.column, ec)
		if tt.want == nil {
			if err != nil || string(plaintext) != string(secret) {
				t.Errorf("%s: DecryptLegacy = %q, %v, want the secret", tt.name, plaintext, err)
			}
			continue
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: error = %v, want %v", tt.name, err, tt.want)
		}
		if called := len(s.Calls("Decrypt")) > before; called && !errors.Is(tt.want, kmsencrypted.ErrDecrypt) {
			t.Errorf("%s: the service was called", tt.name)
		}
	}
}

// FuzzLegacy: no column makes the provider call a key that it was not given.
func FuzzLegacy(f *testing.F) {
	f.Add("$gc$bXktcHJvamVjdC9nbG9iYWwvbXktcmluZy9teS1rZXkvNQ==\n$pSURU1D9\n")
	f.Add(legacyColumn("p/europe-west1/r/mine/1", []byte("x")))
	f.Add(legacyColumn("p/europe-west1/r/../mine", []byte("x")))
	f.Add("$gc$$")
	f.Fuzz(func(t *testing.T, column string) {
		client := &scripted{answer: kmsvectors.Answer{Undecryptable: true}}
		p, err := gcp.New(client, keyName, gcp.Options{})
		must(t, err)
		if _, err := p.DecryptLegacy(t.Context(), column, kmsencrypted.BoundContext{}); err == nil {
			t.Errorf("DecryptLegacy(%q) succeeds", column)
		}
		if name := client.sent["name"]; name != nil && name != keyName {
			t.Errorf("DecryptLegacy(%q) called %q", column, name)
		}
	})
}
