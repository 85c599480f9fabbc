package e2e

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// keyService is a key service behind HTTP, of a process that rotates or of production. The
// zero value, or nil, has the keys in memory: the test fills and checks with it.
type keyService struct {
	address    string
	client     *http.Client
	production bool
}

func newKeyService(address string) *keyService {
	return &keyService{address: address, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		MaxIdleConns: 256, MaxIdleConnsPerHost: 256, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}}}
}

// serviceKey is a key of the service.
type serviceKey struct {
	service *keyService
	version int
	aead    cipher.AEAD
}

func (s *keyService) key(version int) serviceKey {
	raw := sha256.Sum256(fmt.Append(nil, "key of the replay ", version))
	block, err := aes.NewCipher(raw[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return serviceKey{s, version, aead}
}

func (k serviceKey) Info() kmsencrypted.KeyInfo {
	return kmsencrypted.KeyInfo{Provider: "replay", KeyID: fmt.Sprint("replay ", k.version), Tag: "replay"}
}

func (k serviceKey) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := k.service.call(ctx); err != nil {
		return nil, err
	}
	return k.aead.Seal(nil, nil, plaintext, ec.Bytes()), nil
}

func (k serviceKey) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := k.service.call(ctx); err != nil {
		return nil, err
	}
	plaintext, err := k.aead.Open(nil, nil, ciphertext, ec.Bytes())
	if err != nil {
		return nil, kmsencrypted.ErrDecrypt
	}
	return plaintext, nil
}

// call takes a call of the quota. What goes over the wire has the size of a wrapped key;
// the ciphers are computed here, on the cores that both share anyway.
func (s *keyService) call(ctx context.Context) error {
	if s == nil {
		return nil
	}
	path := "/rotation"
	if s.production {
		path = "/production"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.address+path, bytes.NewReader(make([]byte, 100)))
	if err != nil {
		return err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return fmt.Errorf("%w: %w", kmsencrypted.ErrUnavailable, err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode == http.StatusTooManyRequests {
		return kmsencrypted.ErrThrottled
	}
	return nil
}

// quotaServer admits calls at a rate from a token bucket that holds one second of them,
// and takes 5 ms for each.
type quotaServer struct {
	address string
	rate    float64

	mu        sync.Mutex
	tokens    float64
	filled    time.Time
	calls     map[string]int
	throttled int
}

func serveKeys(t *testing.T, rate float64) *quotaServer {
	q := &quotaServer{rate: rate, tokens: rate, filled: time.Now(), calls: make(map[string]int)}
	server := httptest.NewServer(q)
	t.Cleanup(server.Close)
	q.address = server.Listener.Addr().String()
	return q
}

func (q *quotaServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if !q.admits(r.URL.Path) {
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	time.Sleep(replayDelay)
	_, _ = w.Write(make([]byte, 100))
}

func (q *quotaServer) admits(path string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.tokens = min(q.rate, q.tokens+now.Sub(q.filled).Seconds()*q.rate)
	q.filled = now
	if q.tokens < 1 {
		q.throttled++
		return false
	}
	q.tokens--
	q.calls[path]++
	return true
}

func (q *quotaServer) startCounting() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.calls)
	q.throttled = 0
}

func (q *quotaServer) counts() (rotation, throttled, production int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.calls["/rotation"], q.throttled, q.calls["/production"]
}
