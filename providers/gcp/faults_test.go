package gcp_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/fakes/gcpkms"
	"github.com/kmsencrypted/kmsencrypted/internal/goroutines"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
)

// TestBadDays runs under a clock of its own and ends only when all its
// goroutines have.
func TestBadDays(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault    gcpkms.Fault
		outage   time.Duration // how long it lasts; 0 for ever
		guard    *guard.Options
		ok       int64   // of 1000 calls at least
		requests float64 // for each call at most
	}{
		"30 % throttled":          {fault: gcpkms.Fault{Code: codes.ResourceExhausted, Share: 0.3}, ok: 970, requests: 1.6},
		"30 % throttled, guarded": {gcpkms.Fault{Code: codes.ResourceExhausted, Share: 0.3}, 0, &guard.Options{Attempts: 4}, 1000, 1.6},
		"10 s outage":             {gcpkms.Fault{Code: codes.Unavailable}, 10 * time.Second, nil, 450, 3},
		"10 s outage, guarded":    {gcpkms.Fault{Code: codes.Unavailable}, 10 * time.Second, &guard.Options{Attempts: 1, BreakFor: time.Second}, 400, 1},
		"1 % slow":                {fault: gcpkms.Fault{Delay: time.Minute, Share: 0.01}, ok: 970, requests: 1.1},
		"1 % slow, guarded":       {gcpkms.Fault{Delay: time.Minute, Share: 0.01}, 0, &guard.Options{CallTimeout: 200 * time.Millisecond}, 1000, 1.1},
		"30 % damaged":            {fault: gcpkms.Fault{CorruptAnswer: true, Share: 0.3}, ok: 940, requests: 1.6},
	} {
		s := start(t)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const calls, every = 1000, 20 * time.Millisecond
				opened, err := gcp.New(gcpkms.InProcess{Server: s}, keyName, nil)
				must(t, err)
				ciphertext := encrypt(t, opened)
				var p kmsencrypted.Provider = opened
				if tt.guard != nil {
					p = guard.New(opened, *tt.guard)
				}
				remove := s.Inject(tt.fault)
				if tt.outage > 0 {
					time.AfterFunc(tt.outage, remove)
				}
				told := len(s.Calls())
				var ok, failed atomic.Int64
				var callers sync.WaitGroup
				for range calls {
					callers.Go(func() {
						plaintext, err := p.Decrypt(t.Context(), ciphertext, bind(t, user))
						switch {
						case err == nil && string(plaintext) == string(secret):
							ok.Add(1)
						case err == nil:
							t.Errorf("a wrong answer: %q", plaintext)
						case plaintext != nil || !kmsencrypted.Retryable(err):
							t.Errorf("Decrypt = %q, %v, want an error that may pass", plaintext, err)
						default:
							failed.Add(1)
						}
					})
					time.Sleep(every)
				}
				callers.Wait()
				if ok.Load() < tt.ok || ok.Load()+failed.Load() != calls {
					t.Errorf("%d of %d calls were answered, %d failed, want at least %d answered", ok.Load(), calls, failed.Load(), tt.ok)
				}
				if got := float64(len(s.Calls())-told) / calls; got > tt.requests {
					t.Errorf("%.2f requests for a call, want at most %v", got, tt.requests)
				}
				remove()
				time.Sleep(time.Minute)
				opens(t, opened, ciphertext)
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
	p, err := gcp.New(client, keyName, nil)
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
	p, err := gcp.New(client, keyName, nil)
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
