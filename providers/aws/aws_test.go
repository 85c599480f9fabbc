package aws_test

import (
	"context"
	"errors"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
)

var (
	secret = []byte("32 bytes that no error may hold!")
	user   = kmsencrypted.Context{"model_name": "User", "model_id": 123}
)

func start(t *testing.T) *awskms.Server {
	t.Helper()
	s := awskms.New()
	t.Cleanup(s.Close)
	return s
}

func open(t *testing.T, s *awskms.Server, keyID string, options aws.Options) *aws.Provider {
	t.Helper()
	p, err := aws.New(s.Client(), keyID, options)
	must(t, err)
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func bind(t *testing.T, ec kmsencrypted.EncryptionContext) kmsencrypted.BoundContext {
	t.Helper()
	bound, err := kmsencrypted.Bind(ec)
	must(t, err)
	return bound
}

func encrypt(t *testing.T, p *aws.Provider, ec kmsencrypted.EncryptionContext) []byte {
	t.Helper()
	ciphertext, err := p.Encrypt(t.Context(), secret, bind(t, ec))
	must(t, err)
	return ciphertext
}

func opens(t *testing.T, p *aws.Provider, ciphertext []byte, ec kmsencrypted.EncryptionContext) {
	t.Helper()
	plaintext, err := p.Decrypt(t.Context(), ciphertext, bind(t, ec))
	if err != nil || string(plaintext) != string(secret) {
		t.Errorf("Decrypt = %q, %v, want the secret", plaintext, err)
	}
}

func fails(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error = %v, want %v", err, want)
	}
}

func TestProvider(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		MaxPlaintext:  aws.MaxPlaintext,
		RefusesEmpty:  true,
		EmptyIsAbsent: true,
		PairsOnly:     true,
		Open: func(t *testing.T) providertest.Key {
			s := start(t)
			id := s.AddKey("7d1c2f0e-0001", "alias/mine")
			fault := func(f awskms.Fault) func(*testing.T) {
				return func(*testing.T) { s.Inject(f) }
			}
			return providertest.Key{
				Provider: open(t, s, id, aws.Options{}),
				Other:    open(t, s, s.AddKey("7d1c2f0e-0002"), aws.Options{}),
				Missing:  open(t, s, "alias/nobody", aws.Options{}),
				Rotate: func(t *testing.T) {
					_, err := s.Client().RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id})
					must(t, err)
				},
				Disable: func(t *testing.T) {
					_, err := s.Client().DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id})
					must(t, err)
				},
				DenyEncrypt: fault(awskms.Fault{Op: "Encrypt", Error: "AccessDeniedException"}),
				DenyDecrypt: fault(awskms.Fault{Op: "Decrypt", Error: "AccessDeniedException"}),
				Throttle:    fault(awskms.Fault{Error: "ThrottlingException"}),
				Interrupt:   fault(awskms.Fault{Reset: true}),
				Hang:        fault(awskms.Fault{Hang: true}),
			}
		},
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	client := start(t).Client()
	for _, keyID := range []string{"", " ", "alias/my key", "key\n", "arn:aws:kms:eu-central-1:123456789012:key/abc"} {
		if p, err := aws.New(client, keyID, aws.Options{}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("New(%q) = %v, %v, want %v", keyID, p, err, kmsencrypted.ErrConfig)
		}
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	p := open(t, start(t), "alias/mine", aws.Options{})
	want := kmsencrypted.KeyInfo{Provider: "aws", KeyID: "alias/mine", Tag: "aws us-east-1"}
	if got := p.Info(); got != want {
		t.Errorf("Info() = %+v, want %+v", got, want)
	}
}

func TestNamesOfAKey(t *testing.T) {
	t.Parallel()
	s := start(t)
	arn := s.AddKey("7d1c2f0e", "alias/mine")
	aliasARN := "arn:aws:kms:" + awskms.Region + ":" + awskms.Account + ":alias/mine"
	for _, name := range []string{arn, "7d1c2f0e", "alias/mine", aliasARN} {
		p := open(t, s, name, aws.Options{})
		opens(t, p, encrypt(t, p, user), user)
		must(t, p.Probe(t.Context()))
	}
}

// TestPinned: the ciphertext names its key, but does not choose it.
func TestPinned(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.AddKey("old", "alias/mine")
	mine := open(t, s, "alias/mine", aws.Options{})
	ciphertext := encrypt(t, mine, user)
	s.AddKey("new", "alias/mine") // the alias moves
	_, err := mine.Decrypt(t.Context(), ciphertext, bind(t, user))
	fails(t, err, kmsencrypted.ErrDecrypt)
	opens(t, open(t, s, "old", aws.Options{}), ciphertext, user)
	opens(t, open(t, s, "alias/mine", aws.Options{AnyKey: true}), ciphertext, user)

	decrypts := s.Calls("Decrypt")
	for i, want := range []any{"alias/mine", "old", nil} {
		if got := decrypts[i].Body["KeyId"]; got != want {
			t.Errorf("call %d of Decrypt has KeyId %v, want %v", i, got, want)
		}
	}
}

func TestGrantTokens(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.AddKey("k")
	tokens := []string{"token"}
	p := open(t, s, "k", aws.Options{GrantTokens: tokens})
	tokens[0] = "changed"
	ciphertext := encrypt(t, p, user)
	opens(t, p, ciphertext, user)
	_, err := p.Rewrap(t.Context(), kmsencrypted.Wrapped{Ciphertext: ciphertext, Context: bind(t, user)}, p, bind(t, user))
	must(t, err)
	must(t, p.Probe(t.Context()))
	for _, call := range s.Calls() {
		if sent, _ := call.Body["GrantTokens"].([]any); len(sent) != 1 || sent[0] != "token" {
			t.Errorf("%s has grant tokens %v, want the one configured", call.Op, sent)
		}
	}
}

// TestRewrap moves a ciphertext to another key and context without the
// plaintext leaving the service.
func TestRewrap(t *testing.T) {
	t.Parallel()
	s := start(t)
	source, target := open(t, s, s.AddKey("source"), aws.Options{}), open(t, s, s.AddKey("target"), aws.Options{})
	before, after := bind(t, user), bind(t, kmsencrypted.Context{"tenant": "acme"})
	from := kmsencrypted.Wrapped{Ciphertext: encrypt(t, source, user), Context: before}
	moved, err := target.Rewrap(t.Context(), from, source, after)
	must(t, err)
	opens(t, target, moved, kmsencrypted.Context{"tenant": "acme"})
	if n := len(s.Calls("ReEncrypt")); n != 1 {
		t.Errorf("Rewrap made %d calls of ReEncrypt, want 1", n)
	}
	call := s.Calls("ReEncrypt")[0]
	if call.SourceContext["model_id"] != "123" || call.DestinationContext["tenant"] != "acme" || call.Body["SourceKeyId"] == nil {
		t.Errorf("ReEncrypt = %+v, want both contexts and the source key", call)
	}

	open := open(t, s, "source", aws.Options{AnyKey: true})
	_, err = target.Rewrap(t.Context(), from, open, after)
	must(t, err)
	if sent := s.Calls("ReEncrypt")[1].Body["SourceKeyId"]; sent != nil {
		t.Errorf("SourceKeyId = %v, want none for a source that may use any key", sent)
	}

	elsewhere, err := aws.New(kms.New(kms.Options{Region: "eu-central-1"}), "alias/mine", aws.Options{})
	must(t, err)
	_, err = target.Rewrap(t.Context(), from, elsewhere, after)
	fails(t, err, errors.ErrUnsupported)
}

func TestProbe(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s, s.AddKey("k"), aws.Options{})
	must(t, p.Probe(t.Context()))
	_, err := s.Client().ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: sdk.String("k")})
	must(t, err)
	fails(t, p.Probe(t.Context()), kmsencrypted.ErrKeyUnusable)
	s.Inject(awskms.Fault{Op: "DescribeKey", Error: "AccessDeniedException"})
	fails(t, p.Probe(t.Context()), kmsencrypted.ErrDenied)
}

func load(s *awskms.Server) []func(*config.LoadOptions) error {
	return []func(*config.LoadOptions) error{
		config.WithBaseEndpoint(s.URL),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("id", "secret", "")),
	}
}

func TestOpen(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", "none")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	s := start(t)
	arn := s.AddKey("k", "alias/mine")
	p, err := aws.Open(t.Context(), arn, aws.Options{Load: load(s)})
	must(t, err)
	opens(t, p, encrypt(t, p, user), user)
	if tag := p.Info().Tag; tag != "aws us-east-1" {
		t.Errorf("Tag = %q, want the region of the ARN", tag)
	}

	_, err = aws.Open(t.Context(), "alias/mine", aws.Options{Load: load(s)})
	fails(t, err, kmsencrypted.ErrConfig)
	p, err = aws.Open(t.Context(), "alias/mine", aws.Options{Load: append(load(s), config.WithRegion(awskms.Region))})
	must(t, err)
	opens(t, p, encrypt(t, p, user), user)
	_, err = aws.Open(t.Context(), arn, aws.Options{Load: []func(*config.LoadOptions) error{config.WithSharedConfigProfile("nobody")}})
	fails(t, err, kmsencrypted.ErrConfig)
}

// TestOpenTriesThreeTimes counts the requests behind one call.
func TestOpenTriesThreeTimes(t *testing.T) {
	t.Parallel()
	s := start(t)
	p, err := aws.Open(t.Context(), s.AddKey("k"), aws.Options{Load: load(s)})
	must(t, err)
	s.Inject(awskms.Fault{Error: "KMSInternalException", Times: 2})
	encrypt(t, p, user)
	s.Inject(awskms.Fault{Error: "ThrottlingException"})
	_, err = p.Encrypt(t.Context(), secret, bind(t, user))
	fails(t, err, kmsencrypted.ErrThrottled)
	if n := len(s.Calls("Encrypt")); n != 3+3 {
		t.Errorf("two calls made %d requests, want 6", n)
	}
}

func TestNoPlaintextCrossesACancelledCall(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s, s.AddKey("k"), aws.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Encrypt(ctx, secret, bind(t, user))
	fails(t, err, context.Canceled)
	if n := len(s.Calls()); n != 0 {
		t.Errorf("a cancelled call made %d requests", n)
	}
}
