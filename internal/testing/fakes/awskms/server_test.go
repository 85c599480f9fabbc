package awskms_test

import (
	stdcontext "context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
)

func start(t *testing.T) *awskms.Server {
	t.Helper()
	s := awskms.New()
	t.Cleanup(s.Close)
	return s
}

func TestServer(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, client{s.Client()})
		})
	}
}

// TestMoto runs the same cases against an independent emulator, so that this
// one is not merely what its author believes.
func TestMoto(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("moto_server is not on PATH")
	}
	endpoint := startMoto(t, path)
	// It answers some errors before it has read the request, and closes: the client may then
	// read a closed connection instead of the answer, and asks again.
	c := client{kms.New(kms.Options{
		Region:       awskms.Region,
		BaseEndpoint: &endpoint,
		Credentials:  credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})}
	for _, tt := range cases {
		if tt.differs != "" {
			t.Logf("not compared: %s: moto %s", tt.name, tt.differs)
			continue
		}
		t.Run(tt.name, func(t *testing.T) { tt.run(t, c) })
	}
}

func startMoto(t *testing.T, path string) (endpoint string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := listener.Addr().String()
	must(t, listener.Close())
	cmd := exec.Command(path, "-H", "127.0.0.1", "-p", address[strings.LastIndex(address, ":")+1:])
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return "http://" + address
		}
		if time.Now().After(deadline) {
			t.Fatal("moto_server does not answer")
		}
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	s := start(t)
	id := s.AddKey("0b1c", "alias/mine")
	c := client{s.Client()}
	blob := c.encrypt(t, aws.String("alias/mine"), context)
	c.encrypt(t, &id, map[string]string{})
	c.encrypt(t, &id, nil)
	_, err := c.ReEncrypt(t.Context(), &kms.ReEncryptInput{
		CiphertextBlob: blob, DestinationKeyId: &id, SourceEncryptionContext: context, DestinationEncryptionContext: map[string]string{"a": "b"},
	})
	must(t, err)

	encrypts, all := s.Calls("Encrypt"), s.Calls()
	if len(encrypts) != 3 || len(all) != 4 {
		t.Fatalf("counted %d Encrypt and %d in all, want 3 and 4", len(encrypts), len(all))
	}
	if encrypts[0].Body["KeyId"] != "alias/mine" || encrypts[0].Context["model_id"] != "123" {
		t.Errorf("first call = %+v, want the alias and the context", encrypts[0])
	}
	if encrypts[1].Context == nil || encrypts[2].Context != nil {
		t.Errorf("contexts = %v, %v, want an empty one and none", encrypts[1].Context, encrypts[2].Context)
	}
	if all[3].SourceContext["model_name"] != "User" || all[3].DestinationContext["a"] != "b" {
		t.Errorf("ReEncrypt = %+v, want both contexts", all[3])
	}
}

func TestExceptions(t *testing.T) {
	t.Parallel()
	s := start(t)
	id := s.AddKey("k")
	c := client{s.Client()}
	for _, code := range []string{
		"ThrottlingException", "KMSInternalException", "DependencyTimeoutException",
		"AccessDeniedException", "KeyUnavailableException", "ServiceUnavailableException",
	} {
		remove := s.Inject(awskms.Fault{Op: "Encrypt", Error: code})
		for range 2 {
			_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: secret})
			wantCode(t, err, code)
		}
		_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		must(t, err)
		remove()
		c.encrypt(t, &id, nil)
	}
}

func TestFaultTimes(t *testing.T) {
	t.Parallel()
	s := start(t)
	id := s.AddKey("k")
	s.Inject(awskms.Fault{Error: "ThrottlingException", Times: 2})
	retrying := s.Client(func(o *kms.Options) {
		o.RetryMaxAttempts = 3
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		})
	})
	_, err := retrying.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	must(t, err)
	if n := len(s.Calls()); n != 3 {
		t.Errorf("two throttled calls and one good one count as %d", n)
	}
}

func TestHangAndDelay(t *testing.T) {
	t.Parallel()
	s := start(t)
	id := s.AddKey("k")
	for name, fault := range map[string]awskms.Fault{"hang": {Hang: true}, "delay": {Delay: time.Minute}} {
		remove := s.Inject(fault)
		ctx, cancel := stdcontext.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := s.Client().DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &id})
		cancel()
		remove()
		if !errors.Is(err, stdcontext.DeadlineExceeded) {
			t.Errorf("%s: error = %v, want deadline exceeded", name, err)
		}
	}
	s.Inject(awskms.Fault{Delay: time.Millisecond})
	_, err := s.Client().DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	must(t, err)
}

func TestReset(t *testing.T) {
	t.Parallel()
	s := start(t)
	id := s.AddKey("k")
	s.Inject(awskms.Fault{Reset: true, Times: 1})
	_, err := s.Client().DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	if _, isAPI := errors.AsType[smithy.APIError](err); err == nil || isAPI {
		t.Errorf("error = %v, want a connection error", err)
	}
	_, err = s.Client().DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	must(t, err)
}

// TestInvalidCiphertextHasNoMessage: in recorded sessions the body is the type alone.
func TestInvalidCiphertextHasNoMessage(t *testing.T) {
	t.Parallel()
	_, err := start(t).Client().Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: secret})
	if failed, ok := errors.AsType[*types.InvalidCiphertextException](err); !ok || failed.ErrorMessage() != "" {
		t.Errorf("error = %v, want InvalidCiphertextException without a message", err)
	}
}

// TestBlobLength: 21 bytes gave 173 in recorded sessions.
func TestBlobLength(t *testing.T) {
	t.Parallel()
	s := start(t)
	id := s.AddKey("k")
	if blob := (client{s.Client()}).encrypt(t, &id, nil); len(blob) != len(secret)+152 {
		t.Errorf("blob of %d bytes has %d, want %d", len(secret), len(blob), len(secret)+152)
	}
}

func TestKeyMaterialIDIsInTheBlob(t *testing.T) {
	t.Parallel()
	s := start(t)
	id := s.AddKey("k")
	blob := (client{s.Client()}).encrypt(t, &id, nil)
	out, err := s.Client().Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob})
	must(t, err)
	if got, want := *out.KeyMaterialId, fmt.Sprintf("%x", blob[5:37]); got != want {
		t.Errorf("KeyMaterialId = %s, want %s", got, want)
	}
}

func TestRefusesForeignRequests(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, header := range map[string]http.Header{
		"another service": {"X-Amz-Target": {"DynamoDB_20120810.GetItem"}},
		"unsigned":        {"X-Amz-Target": {"TrentService.Encrypt"}},
	} {
		r, err := http.NewRequest("POST", s.URL, strings.NewReader("{}"))
		must(t, err)
		r.Header = header
		answer, err := http.DefaultClient.Do(r)
		must(t, err)
		answer.Body.Close()
		if answer.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: status = %d, want 400", name, answer.StatusCode)
		}
	}
}
