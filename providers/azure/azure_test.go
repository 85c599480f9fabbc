package azure_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/keyvault"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/providers/azure"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
)

var (
	secret     = []byte("32 bytes that no error may hold!")
	user       = kmsencrypted.Context{"model_name": "User", "model_id": 123}
	algorithms = []azure.Algorithm{azure.RSAOAEP256, azure.AES256KW, azure.AES256GCM}
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

func bind(t *testing.T, ec kmsencrypted.EncryptionContext) kmsencrypted.BoundContext {
	t.Helper()
	bound, err := kmsencrypted.Bind(ec)
	must(t, err)
	return bound
}

func start(t *testing.T, algorithm azure.Algorithm) *keyvault.Server {
	t.Helper()
	s := keyvault.New()
	t.Cleanup(s.Close)
	add := s.AddAES
	if algorithm == azure.RSAOAEP256 {
		add = s.AddRSA
	}
	add("mine")
	add("other")
	return s
}

func open(t *testing.T, s *keyvault.Server, name string, algorithm azure.Algorithm) *azure.Provider {
	t.Helper()
	p, err := azure.New(s.Client(1), s.KeyID(name), azure.Options{Algorithm: algorithm})
	must(t, err)
	return p
}

func TestProvider(t *testing.T) {
	t.Parallel()
	for _, algorithm := range algorithms {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, providertest.Harness{
				MaxPlaintext:  azure.MaxPlaintext,
				Deterministic: algorithm == azure.AES256KW,
				Open: func(t *testing.T) providertest.Key {
					s := start(t, algorithm)
					fault := func(f keyvault.Fault) func(*testing.T) {
						return func(*testing.T) { s.Inject(f) }
					}
					wrap, unwrap := "wrapkey", "unwrapkey"
					if algorithm == azure.AES256GCM {
						wrap, unwrap = "encrypt", "decrypt"
					}
					denied := keyvault.Fault{Status: http.StatusForbidden, Code: "Forbidden", Inner: "ForbiddenByRbac"}
					denyWrap, denyUnwrap := denied, denied
					denyWrap.Operation, denyUnwrap.Operation = wrap, unwrap
					return providertest.Key{
						Provider:    open(t, s, "mine", algorithm),
						Other:       open(t, s, "other", algorithm),
						Missing:     open(t, s, "missing", algorithm),
						Rotate:      func(*testing.T) { s.Rotate("mine") },
						Disable:     func(*testing.T) { s.Disable("mine") },
						DenyEncrypt: fault(denyWrap),
						DenyDecrypt: fault(denyUnwrap),
						Throttle:    fault(keyvault.Fault{Status: http.StatusTooManyRequests, Code: "Throttled"}),
						Interrupt:   fault(keyvault.Fault{Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable"}),
						Hang:        fault(keyvault.Fault{Hang: true}),
					}
				},
			})
		})
	}
}

// A wrap opens under the version that it names, for ever, and under no other
// algorithm: whoever has the public half of an RSA key can make wraps of it.
func TestVersionsAndAlgorithms(t *testing.T) {
	t.Parallel()
	s := start(t, azure.AES256GCM)
	gcm, kw := open(t, s, "mine", azure.AES256GCM), open(t, s, "mine", azure.AES256KW)
	before, err := gcm.Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	s.Rotate("mine")
	after, err := gcm.Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	if string(before[2:34]) == string(after[2:34]) {
		t.Error("both wraps name one version")
	}
	for _, ciphertext := range [][]byte{before, after} {
		got, err := gcm.Decrypt(t.Context(), ciphertext, bind(t, user))
		if err != nil || string(got) != string(secret) {
			t.Errorf("Decrypt = %q, %v", got, err)
		}
		_, err = kw.Decrypt(t.Context(), ciphertext, bind(t, user))
		fails(t, err, kmsencrypted.ErrDecrypt)
	}
	exchanged := slices.Concat(before[:2], after[2:34], before[34:])
	_, err = gcm.Decrypt(t.Context(), exchanged, bind(t, user))
	fails(t, err, kmsencrypted.ErrDecrypt)
}

// What is not a wrap costs no request.
func TestMalformed(t *testing.T) {
	t.Parallel()
	s := start(t, azure.RSAOAEP256)
	p := open(t, s, "mine", azure.RSAOAEP256)
	wrap, err := p.Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	version := strings.Repeat("a", 32)
	calls := len(s.Calls())
	for _, ciphertext := range []string{
		"", "\x01", "\x01\x01" + version, "\x02\x01" + version + "x", "\x01\x02" + version + "x",
		"\x01\x01" + strings.Repeat("A", 32) + "x", "\x01\x01" + strings.Repeat("/", 32) + "x", "\x01\x01../../../../../../../../../../aa" + "x",
		"\x00" + string(wrap[1:]),
	} {
		_, err := p.Decrypt(t.Context(), []byte(ciphertext), bind(t, user))
		fails(t, err, kmsencrypted.ErrDecrypt)
	}
	if n := len(s.Calls()) - calls; n != 0 {
		t.Errorf("%d requests, want none", n)
	}
	_, err = p.Decrypt(t.Context(), []byte("\x01\x01"+version+"x"), bind(t, user))
	fails(t, err, kmsencrypted.ErrDecrypt) // no such version
}

// What is decoded is encoded to the same bytes, and only by the format of its
// specification.
func FuzzDecrypt(f *testing.F) {
	s := keyvault.New()
	f.Cleanup(s.Close)
	s.AddAES("mine")
	p, err := azure.New(s.Client(1), s.KeyID("mine"), azure.Options{Algorithm: azure.AES256GCM})
	if err != nil {
		f.Fatal(err)
	}
	ec, err := kmsencrypted.Bind(user)
	if err != nil {
		f.Fatal(err)
	}
	wrap, err := p.Encrypt(f.Context(), secret, ec)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrap)
	f.Add(wrap[:34])
	f.Add(wrap[:50])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, ciphertext []byte) {
		got, err := p.Decrypt(t.Context(), ciphertext, ec)
		if same := string(ciphertext) == string(wrap); same != (err == nil) || same && string(got) != string(secret) {
			t.Errorf("Decrypt(%x) = %q, %v", ciphertext, got, err)
		}
		if err != nil && !errors.Is(err, kmsencrypted.ErrDecrypt) {
			t.Errorf("Decrypt(%x): %v, want ErrDecrypt", ciphertext, err)
		}
	})
}

func TestProbe(t *testing.T) {
	t.Parallel()
	for _, algorithm := range algorithms {
		s := start(t, algorithm)
		p := open(t, s, "mine", algorithm)
		must(t, p.Probe(t.Context()))
		for _, other := range algorithms {
			err := open(t, s, "mine", other).Probe(t.Context())
			if same := (other == azure.RSAOAEP256) == (algorithm == azure.RSAOAEP256); same {
				must(t, err)
			} else {
				fails(t, err, kmsencrypted.ErrKeyUnusable)
			}
		}
		s.Expire("mine", time.Now().Add(-time.Hour))
		fails(t, p.Probe(t.Context()), kmsencrypted.ErrKeyUnusable)
		s.Expire("mine", time.Now().Add(time.Hour))
		must(t, p.Probe(t.Context()))
		s.Disable("mine")
		fails(t, p.Probe(t.Context()), kmsencrypted.ErrKeyUnusable)
		fails(t, open(t, s, "missing", algorithm).Probe(t.Context()), kmsencrypted.ErrKeyUnusable)
	}
}

// Only AES-GCM binds the context at the service, and a Box in the Ruby format
// refuses the others.
func TestContext(t *testing.T) {
	t.Parallel()
	for _, algorithm := range algorithms {
		s := start(t, algorithm)
		p := open(t, s, "mine", algorithm)
		binds := algorithm == azure.AES256GCM
		if info := p.Info(); info.IgnoresContext == binds || info.KeyID != s.KeyID("mine") || info.Tag != "azure" {
			t.Errorf("%s: Info() = %+v", algorithm, info)
		}
		_, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: p, Format: kmsencrypted.Ruby}}}.Box()
		if refused := errors.Is(err, kmsencrypted.ErrConfig); refused == binds {
			t.Errorf("%s: a Box in the Ruby format: %v", algorithm, err)
		}
		box, err := kmsencrypted.NewBox(p)
		must(t, err)
		column, err := box.Encrypt(t.Context(), secret, user)
		must(t, err)
		if got, err := box.Decrypt(t.Context(), column, user); err != nil || string(got) != string(secret) {
			t.Errorf("%s: Decrypt = %q, %v", algorithm, got, err)
		}
		_, err = box.Decrypt(t.Context(), column, kmsencrypted.Context{"model_name": "User", "model_id": 124})
		want := kmsencrypted.ErrBinding // found by the format
		if binds {
			want = kmsencrypted.ErrDecrypt // found by the service
		}
		fails(t, err, want)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := start(t, azure.RSAOAEP256)
	p := open(t, s, "mine", azure.RSAOAEP256)
	for name, c := range map[string]struct {
		fault keyvault.Fault
		want  error
	}{
		"disabled":  {keyvault.Fault{Status: 403, Code: "Forbidden", Inner: "KeyDisabled"}, kmsencrypted.ErrKeyUnusable},
		"expired":   {keyvault.Fault{Status: 403, Code: "Forbidden", Inner: "KeyExpired"}, kmsencrypted.ErrKeyUnusable},
		"too early": {keyvault.Fault{Status: 403, Code: "Forbidden", Inner: "KeyNotYetValid"}, kmsencrypted.ErrKeyUnusable},
		"firewall":  {keyvault.Fault{Status: 403, Code: "Forbidden", Inner: "ForbiddenByFirewall"}, kmsencrypted.ErrDenied},
		"policy":    {keyvault.Fault{Status: 403, Code: "Forbidden", Inner: "ForbiddenByPolicy"}, kmsencrypted.ErrDenied},
		"token":     {keyvault.Fault{Status: 401, Code: "Unauthorized"}, kmsencrypted.ErrDenied},
		"deleted":   {keyvault.Fault{Status: 409, Code: "Conflict"}, kmsencrypted.ErrKeyUnusable},
		"internal":  {keyvault.Fault{Status: 500, Code: "InternalServerError"}, kmsencrypted.ErrUnavailable},
		"gateway":   {keyvault.Fault{Status: 502}, kmsencrypted.ErrUnavailable},
	} {
		remove := s.Inject(c.fault)
		_, err := p.Encrypt(t.Context(), secret, bind(t, user))
		remove()
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error has several lines: %q", name, err)
		}
	}
	s.Close()
	_, err := p.Encrypt(t.Context(), secret, bind(t, user))
	fails(t, err, kmsencrypted.ErrUnavailable)
}

// Each request to the service is seen by observers, and the version that it used.
func TestObserver(t *testing.T) {
	t.Parallel()
	s := start(t, azure.RSAOAEP256)
	p, err := azure.New(s.Client(3), s.KeyID("mine"), azure.Options{})
	must(t, err)
	must(t, p.Probe(t.Context())) // the client has logged in
	var last kmsencrypted.Event
	box, err := kmsencrypted.Config{
		Current:  1,
		Versions: map[int]kmsencrypted.Version{1: {Provider: p}},
		Observer: func(_ context.Context, e kmsencrypted.Event) { last = e },
	}.Box()
	must(t, err)
	s.Inject(keyvault.Fault{Status: 429, Times: 2})
	column, err := box.Encrypt(t.Context(), secret, user)
	must(t, err)
	version := last.KeyVersion
	if last.Attempts != 3 || len(version) != 32 {
		t.Errorf("a wrap that was throttled twice: %d attempts, version %q", last.Attempts, version)
	}
	_, err = box.Decrypt(t.Context(), column, user)
	must(t, err)
	if last.Attempts != 1 || last.KeyVersion != version {
		t.Errorf("an unwrap: %d attempts, version %q, want 1, %q", last.Attempts, last.KeyVersion, version)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, azure.RSAOAEP256)
	for _, keyID := range []string{
		"", "mine", "http://v.example.org/keys/k", "https://v.example.org/keys/", "https://v.example.org/keys/k/0123", "https://v.example.org/secrets/k",
		"https:///keys/k", "https://v.example.org/keys/k?x=1", "https://u:p@v.example.org/keys/k", "https://v.example.org/keys/a_b",
	} {
		if p, err := azure.New(s.Client(1), keyID, azure.Options{}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("New(%q) = %v, %v, want %v", keyID, p, err, kmsencrypted.ErrConfig)
		}
	}
	for _, options := range []azure.Options{{Algorithm: "RSA1_5"}, {Algorithm: "RSA-OAEP"}, {Credential: keyvault.Credential("token")}} {
		_, err := azure.New(s.Client(1), s.KeyID("mine"), options)
		fails(t, err, kmsencrypted.ErrConfig)
	}
	_, err := azure.New(nil, s.KeyID("mine"), azure.Options{})
	fails(t, err, kmsencrypted.ErrConfig)
}

// Open is for vaults of Azure: the client trusts no other certificate.
func TestOpen(t *testing.T) {
	t.Parallel()
	s := start(t, azure.RSAOAEP256)
	p, err := azure.Open(t.Context(), s.KeyID("mine"), azure.Options{Credential: keyvault.Credential("token")})
	must(t, err)
	_, err = p.Encrypt(t.Context(), secret, bind(t, user))
	fails(t, err, kmsencrypted.ErrUnavailable)
	_, err = azure.Open(t.Context(), "https://v.vault.azure.net/keys/k/version", azure.Options{})
	fails(t, err, kmsencrypted.ErrConfig)
}

// What nobody set up returns an error instead of a panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	zerotest.Calls(t, map[string]func() error{
		"New of a nil client": func() error {
			_, err := azure.New((*azkeys.Client)(nil), "https://v.vault.azure.net/keys/k", azure.Options{})
			return err
		},
	})
}
