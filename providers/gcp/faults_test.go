package gcp_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/badday"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/gcpkms"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/goroutines"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
)

func TestBadDays(t *testing.T) {
	t.Parallel()
	throttled, outage := gcpkms.Fault{Code: codes.ResourceExhausted, Share: 0.3}, gcpkms.Fault{Code: codes.Unavailable}
	slow := gcpkms.Fault{Delay: time.Minute, Share: 0.01}
	for name, tt := range map[string]struct {
		fault gcpkms.Fault
		day   badday.Day
	}{
		"30 % throttled":          {throttled, badday.Day{Answered: 970, Requests: 1.6}},
		"30 % throttled, guarded": {throttled, badday.Day{Guard: &guard.Options{Attempts: 4}, Answered: 1000, Requests: 1.6}},
		"10 s outage":             {outage, badday.Day{Outage: 10 * time.Second, Answered: 450, Requests: 3}},
		"10 s outage, guarded":    {outage, badday.Day{Outage: 10 * time.Second, Guard: &guard.Options{Attempts: 1, BreakFor: time.Second}, Answered: 400, Requests: 1}},
		"1 % slow":                {slow, badday.Day{Answered: 970, Requests: 1.1}},
		"1 % slow, guarded":       {slow, badday.Day{Guard: &guard.Options{CallTimeout: 200 * time.Millisecond}, Answered: 1000, Requests: 1.1}},
		"30 % damaged":            {gcpkms.Fault{CorruptAnswer: true, Share: 0.3}, badday.Day{Answered: 940, Requests: 1.6}},
	} {
		s := start(t)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.day.Run(t, func(t *testing.T) badday.Service {
				p, err := gcp.New(gcpkms.InProcess{Server: s}, keyName, gcp.Options{})
				must(t, err)
				return badday.Service{
					Provider: p, Ciphertext: encrypt(t, p), Plaintext: secret, Context: bind(t, user),
					Requests: func() int { return len(s.Calls()) },
					Begin:    func() (end func()) { return s.Inject(tt.fault) },
				}
			})
		})
	}
}

// bearer gives each call the newest token, over connections without TLS too.
type bearer struct{ token func() string }

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token()}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

// TestTokensAreRefreshed: the provider lives longer than the token of its client.
func TestTokensAreRefreshed(t *testing.T) {
	t.Parallel()
	s := start(t)
	var age atomic.Int64
	token := func() string { return fmt.Sprint("token", age.Load()) }
	s.Admit(func(sent string) bool { return sent == token() })
	var stale atomic.Bool
	client, err := kms.NewKeyManagementClient(t.Context(), option.WithEndpoint(s.Addr), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithPerRPCCredentials(bearer{func() string {
			if stale.Load() {
				return "token of yesterday"
			}
			return token()
		}})))
	must(t, err)
	t.Cleanup(func() { client.Close() })
	p, err := gcp.New(client, keyName, gcp.Options{})
	must(t, err)
	ciphertext := encrypt(t, p)
	for range 20 {
		age.Add(1)
		opens(t, p, ciphertext)
	}
	stale.Store(true)
	_, err = p.Decrypt(t.Context(), ciphertext, bind(t, user))
	fails(t, err, kmsencrypted.ErrDenied)
	stale.Store(false)
	opens(t, p, ciphertext)
}

// cuttable is a listener whose connections can be cut.
type cuttable struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *cuttable) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, conn)
		l.mu.Unlock()
	}
	return conn, err
}

func (l *cuttable) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.(*net.TCPConn).SetLinger(0) // closing sends RST
		conn.Close()
	}
	l.conns = nil
}

// TestNothingIsLeftBehind cuts connections under calls and gives calls up in the
// middle. It is not parallel: it counts goroutines.
func TestNothingIsLeftBehind(t *testing.T) {
	left := goroutines.Check(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	connections := &cuttable{Listener: listener}
	s := gcpkms.NewOn(connections)
	s.AddKey(keyName)
	client, err := s.Client(t.Context())
	must(t, err)
	p, err := gcp.New(client, keyName, gcp.Options{})
	must(t, err)
	ciphertext := encrypt(t, p)
	s.Inject(gcpkms.Fault{Delay: 50 * time.Millisecond, Times: 20})
	var callers sync.WaitGroup
	for range 20 { // 20 calls are on their way when their connection goes
		callers.Go(func() { opens(t, p, ciphertext) })
	}
	time.Sleep(20 * time.Millisecond)
	connections.cut()
	callers.Wait()

	remove := s.Inject(gcpkms.Fault{Hang: true})
	for range 50 {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if _, err := p.Decrypt(ctx, ciphertext, bind(t, user)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a call that is given up: %v", err)
			}
		})
	}
	callers.Wait()
	remove()
	opens(t, p, ciphertext)
	must(t, client.Close())
	s.Close()
	left()
}
