package vault_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/badday"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/goroutines"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
)

// trouble is a transport that answers for a server, when it does.
type trouble struct {
	share  float64       // of requests that meet it
	status int           // to answer with
	broken bool          // or no answer
	delay  time.Duration // or one that comes late
	on     *atomic.Bool
	sent   *atomic.Int64
}

func (d trouble) RoundTrip(r *http.Request) (*http.Response, error) {
	d.sent.Add(1)
	answer := func(status int, text string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Request: r, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}, nil
	}
	if d.on.Load() && rand.Float64() < d.share {
		switch {
		case d.broken:
			return nil, &net.OpError{Op: "read", Net: "tcp", Err: io.ErrUnexpectedEOF}
		case d.status != 0:
			return answer(d.status, `{"errors":["trouble"]}`)
		}
		select {
		case <-time.After(d.delay):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	return answer(200, `{"data":{"plaintext":"`+rubycompat.StrictEncode64(secret)+`"}}`)
}

// TestBadDays: the client has the attempts of Open.
func TestBadDays(t *testing.T) {
	t.Parallel()
	throttled, broken, slow := trouble{share: 0.3, status: 429}, trouble{share: 1, broken: true}, trouble{share: 0.01, delay: time.Minute}
	for name, tt := range map[string]struct {
		trouble trouble
		day     badday.Day
	}{
		"30 % throttled":          {throttled, badday.Day{Answered: 950, Requests: 1.6}},
		"30 % throttled, guarded": {throttled, badday.Day{Guard: &guard.Options{Attempts: 4}, Answered: 1000, Requests: 1.6}},
		"10 s outage":             {trouble{share: 1, status: 503}, badday.Day{Outage: 10 * time.Second, Answered: 450, Requests: 2.2}},
		"10 s of resets":          {broken, badday.Day{Outage: 10 * time.Second, Answered: 450, Requests: 2.2}},
		"10 s outage, guarded":    {broken, badday.Day{Outage: 10 * time.Second, Guard: &guard.Options{Attempts: 1, BreakFor: time.Second}, Answered: 400, Requests: 1}},
		"1 % slow":                {slow, badday.Day{Answered: 970, Requests: 1.1}},
		"1 % slow, guarded":       {slow, badday.Day{Guard: &guard.Options{CallTimeout: 200 * time.Millisecond}, Answered: 1000, Requests: 1.1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.day.Run(t, func(t *testing.T) badday.Service {
				transport := tt.trouble
				transport.on, transport.sent = new(atomic.Bool), new(atomic.Int64)
				client, err := api.NewClient(&api.Config{
					Address: "http://vault.test", HttpClient: &http.Client{Transport: transport},
					MaxRetries: 2, MinRetryWait: 100 * time.Millisecond, MaxRetryWait: time.Second, Timeout: 10 * time.Second,
				})
				must(t, err)
				p, err := vault.New(client, "vault/k", vault.Options{})
				must(t, err)
				return badday.Service{
					Provider: p, Ciphertext: sealedText, Plaintext: secret, Context: bind(t, user),
					Requests: func() int { return int(transport.sent.Load()) },
					Begin: func() (end func()) {
						transport.on.Store(true)
						return func() { transport.on.Store(false) }
					},
				}
			})
		})
	}
}

// TestNothingIsLeftBehind cuts answers off and gives calls up in the middle, over
// a real network. It is not parallel: it counts goroutines.
func TestNothingIsLeftBehind(t *testing.T) {
	left := goroutines.Check(t)
	var hang atomic.Bool
	released := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if hang.Load() {
			select {
			case <-r.Context().Done():
			case <-released:
			}
			return
		}
		w.Header().Set("Content-Length", "1000")
		w.Write([]byte(`{"data":{"plaintext":"MzIgYn`))
		http.NewResponseController(w).Flush()
		conn, _, err := http.NewResponseController(w).Hijack()
		must(t, err)
		conn.(*net.TCPConn).SetLinger(0) // closing sends RST
		conn.Close()
	}))
	transport := &http.Transport{}
	client, err := api.NewClient(&api.Config{Address: server.URL, HttpClient: &http.Client{Transport: transport}})
	must(t, err)
	p, err := vault.New(client, "vault/k", vault.Options{})
	must(t, err)
	for range 5 {
		plaintext, err := p.Decrypt(t.Context(), sealedText, bind(t, user))
		if plaintext != nil || !errors.Is(err, kmsencrypted.ErrUnavailable) {
			t.Errorf("an answer that is cut off: %q, %v, want ErrUnavailable", plaintext, err)
		}
		_, err = p.DecryptBatch(t.Context(), []kmsencrypted.Wrapped{{Ciphertext: sealedText, Context: bind(t, user)}})
		fails(t, err, kmsencrypted.ErrUnavailable)
		fails(t, p.Probe(t.Context()), kmsencrypted.ErrUnavailable)
	}
	hang.Store(true)
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := p.Decrypt(ctx, sealedText, bind(t, user))
			fails(t, err, context.DeadlineExceeded)
		})
	}
	callers.Wait()
	close(released)
	transport.CloseIdleConnections()
	server.Close()
	left()
}

// testLogin keeps a program going for longer than its tokens live, with the login
// of the example.
func testLogin(t *testing.T, e *engine) {
	e.newKey(t, "k", true)
	role := e.mount // a name of its own
	must(t, e.root.Sys().EnableAuthWithOptionsWithContext(t.Context(), role, &api.EnableAuthOptions{Type: "approle"}))
	t.Cleanup(func() { e.root.Sys().DisableAuthWithContext(context.Background(), role) })
	write := func(path string, body map[string]any) map[string]any {
		t.Helper()
		out, err := e.root.Logical().WriteWithContext(t.Context(), path, body)
		must(t, err)
		if out == nil {
			return nil
		}
		return out.Data
	}
	write("auth/"+role+"/role/app", map[string]any{"token_policies": e.mount, "token_ttl": "4s", "token_max_ttl": "8s"})
	read, err := e.root.Logical().ReadWithContext(t.Context(), "auth/"+role+"/role/app/role-id")
	must(t, err)
	roleID := read.Data["role_id"].(string)
	secretID := write("auth/"+role+"/role/app/secret-id", nil)["secret_id"].(string)

	client := e.server.Client(t, "")
	by := byAppRole(client, role, roleID, secretID)
	ctx, stop := context.WithCancel(t.Context())
	token, err := logIn(ctx, client, by)
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- keepToken(ctx, client, token, by) }()
	p, err := vault.New(client, "vault/k", vault.Options{Mount: e.mount})
	must(t, err)
	ciphertext := encrypt(t, p)
	// Until calls were answered under three tokens. Between two of them some are refused.
	answered := make(map[string]bool)
	for deadline := time.Now().Add(2 * time.Minute); len(answered) < 3; time.Sleep(50 * time.Millisecond) {
		under := client.Token()
		plaintext, err := p.Decrypt(t.Context(), ciphertext, bind(t, user))
		switch {
		case err == nil && string(plaintext) == string(secret):
			answered[under] = true
		case !errors.Is(err, kmsencrypted.ErrDenied):
			t.Fatalf("Decrypt = %q, %v", plaintext, err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("calls were answered under %d tokens, want 3: %v", len(answered), err)
		}
	}
	stop()
	fails(t, <-ended, context.Canceled)
}
