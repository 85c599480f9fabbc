package aws_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
)

// sharedFile points the SDK at a credentials file of the test and returns a
// function that writes an access key id into it.
func sharedFile(t *testing.T) (write func(id string)) {
	t.Helper()
	folder := t.TempDir()
	file := filepath.Join(folder, "credentials")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(folder, "none"))
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_PROFILE", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return func(id string) {
		text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = s\naws_session_token = t\n", id)
		must(t, os.WriteFile(file, []byte(text), 0o600))
	}
}

func openShared(t *testing.T, s *awskms.Server) *aws.Provider {
	t.Helper()
	p, err := aws.Open(t.Context(), s.AddKey("k"), aws.Options{
		Load: []func(*config.LoadOptions) error{config.WithBaseEndpoint(s.URL)},
	})
	must(t, err)
	return p
}

// Another process renews the shared credentials file, as aws sso and vault agents
// do. Requests that were under way with the old ones succeed too.
func TestSharedFileIsRenewed(t *testing.T) {
	write := sharedFile(t)
	s := start(t)
	write("first")
	p := openShared(t, s)
	ciphertext := encrypt(t, p, user)
	ec := bind(t, user)

	for round := range 3 {
		id := fmt.Sprint("renewed", round)
		s.Admit(func(caller string) bool { return caller == id })
		if _, err := p.Decrypt(t.Context(), ciphertext, ec); !errors.Is(err, kmsencrypted.ErrDenied) {
			t.Fatalf("before the file is renewed: %v, want ErrDenied", err)
		}
		write(id)
		errs := make([]error, 20)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() { _, errs[i] = p.Decrypt(t.Context(), ciphertext, ec) })
		}
		all.Wait()
		must(t, errors.Join(errs...))
	}
}

// A file that is unreadable for a moment fails the requests of that moment only.
func TestSharedFileIsGone(t *testing.T) {
	write := sharedFile(t)
	s := start(t)
	write("first")
	p := openShared(t, s)
	ciphertext := encrypt(t, p, user)
	s.Admit(func(caller string) bool { return caller == "second" })
	must(t, os.Remove(os.Getenv("AWS_SHARED_CREDENTIALS_FILE")))
	if _, err := p.Decrypt(t.Context(), ciphertext, bind(t, user)); err == nil {
		t.Fatal("Decrypt without credentials succeeded")
	}
	write("second")
	opens(t, p, ciphertext, user)
}

// A session ends between two requests, or the service does not know the new
// access key yet on one of its machines.
func TestOutdatedOnce(t *testing.T) {
	s := start(t)
	opened, err := aws.Open(t.Context(), s.AddKey("k"), aws.Options{Load: load(s)})
	must(t, err)
	for _, p := range []*aws.Provider{opened, open(t, s, "k", aws.Options{})} {
		ciphertext := encrypt(t, p, user)
		for _, code := range []string{"ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId"} {
			s.Inject(awskms.Fault{Error: code, Times: 1})
			opens(t, p, ciphertext, user)

			s.Inject(awskms.Fault{Error: code, Times: 2})
			if _, err := p.Decrypt(t.Context(), ciphertext, bind(t, user)); !errors.Is(err, kmsencrypted.ErrDenied) {
				t.Errorf("%s twice: %v, want ErrDenied", code, err)
			}
		}
		s.Inject(awskms.Fault{Error: "AccessDeniedException", Times: 1})
		if _, err := p.Decrypt(t.Context(), ciphertext, bind(t, user)); !errors.Is(err, kmsencrypted.ErrDenied) {
			t.Errorf("a refusal: %v, want ErrDenied without another attempt", err)
		}
	}
}

// Of many requests refused with the same credentials one gets new ones.
func TestOutdatedTogether(t *testing.T) {
	s := start(t)
	var sessions atomic.Int64
	role := sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) {
		return sdk.Credentials{AccessKeyID: fmt.Sprint("session", sessions.Add(1)), SecretAccessKey: "s"}, nil
	})
	client := kms.New(s.Client().Options(), func(o *kms.Options) { o.Credentials = sdk.NewCredentialsCache(role) })
	p, err := aws.New(client, s.AddKey("k"), aws.Options{})
	must(t, err)
	ciphertext := encrypt(t, p, user)
	s.Admit(func(id string) bool { return id != "session1" })
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := p.Decrypt(t.Context(), ciphertext, bind(t, user)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := sessions.Load(); n != 2 {
		t.Errorf("%d sessions were made, want 2", n)
	}
}
