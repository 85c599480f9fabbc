// Package keyvault is a stand-in for Azure Key Vault and Managed HSM: a TLS server
// that speaks their REST interface, version 7.5, to the official client. Keys are
// real ones: RSA-OAEP, AES key wrap and AES-GCM. Only tests import it.
//
// It follows the documentation of the service; nothing here was recorded. It has
// the operations that providers/azure uses: wrapkey, unwrapkey, encrypt, decrypt
// and get. [Fault] refuses and delays.
package keyvault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// Server is one vault. It is safe for concurrent use.
type Server struct {
	URL string // https://127.0.0.1:PORT

	http   *httptest.Server
	client *http.Client // trusts the server

	mu     sync.Mutex
	keys   map[string]*key
	faults []*Fault
	calls  []string
}

// New starts a vault without keys. The caller closes it.
func New() *Server {
	s := &Server{keys: map[string]*key{}}
	s.http = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	s.URL = s.http.URL
	s.client = s.http.Client()
	s.client.Transport.(*http.Transport).MaxIdleConnsPerHost = 100
	s.client.Transport.(*http.Transport).MaxConnsPerHost = 100
	return s
}

// Close stops the server.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// KeyID returns the identifier of a key.
func (s *Server) KeyID(name string) string { return s.URL + "/keys/" + name }

// Client returns a client of this server that makes the given number of attempts.
func (s *Server) Client(attempts int32) *azkeys.Client {
	options := &azkeys.ClientOptions{DisableChallengeResourceVerification: true}
	options.Transport = s.client
	options.Retry = policy.RetryOptions{MaxRetries: attempts - 1, RetryDelay: time.Millisecond, MaxRetryDelay: time.Millisecond}
	if attempts == 1 {
		options.Retry.MaxRetries = -1
	}
	client, err := azkeys.NewClient(s.URL, Credential("token"), options)
	if err != nil {
		panic("keyvault: " + err.Error())
	}
	return client
}

// Credential is a credential whose token is itself. The server admits "token".
type Credential string

// GetToken returns the token.
func (c Credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(c), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// Calls returns the operations so far that came with credentials, such as
// "wrapkey", in order of arrival.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// refusal is an error in the form of the service.
type refusal struct {
	status      int
	code, inner string
}

func (r refusal) Error() string { return r.code }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == "" {
		// The client's first request has no body. This tells it where to log in.
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.example.org/tenant", resource="https://vault.example.org"`)
		fail(w, refusal{status: http.StatusUnauthorized, code: "Unauthorized"})
		return
	}
	answer, err := s.answer(r)
	if err != nil {
		var refused refusal
		if !errors.As(err, &refused) {
			refused = refusal{status: http.StatusBadRequest, code: "BadParameter"}
		}
		fail(w, refused)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

func fail(w http.ResponseWriter, r refusal) {
	body := map[string]any{"code": r.code, "message": "refused by the stand-in"}
	if r.inner != "" {
		body["innererror"] = map[string]string{"code": r.inner}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.status)
	json.NewEncoder(w).Encode(map[string]any{"error": body})
}

// bytes is base64 as the service writes it.
type bytes []byte

func (b bytes) MarshalText() ([]byte, error) {
	return []byte(base64.RawURLEncoding.EncodeToString(b)), nil
}

func (b *bytes) UnmarshalText(text []byte) (err error) {
	*b, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(string(text), "="))
	return err
}

type parameters struct {
	Alg             string
	Value, AAD, Tag bytes
	IV              bytes
}

func (s *Server) answer(r *http.Request) (any, error) {
	if r.Header.Get("Authorization") != "Bearer token" {
		return nil, refusal{status: http.StatusUnauthorized, code: "Unauthorized"}
	}
	if r.URL.Query().Get("api-version") != "7.5" {
		return nil, refusal{status: http.StatusBadRequest, code: "BadParameter"}
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/keys/"), "/")
	name, version, operation := parts[0], "", "get"
	switch {
	case r.Method == http.MethodGet && len(parts) <= 2:
		if len(parts) == 2 {
			version = parts[1]
		}
	case r.Method == http.MethodPost && len(parts) == 3:
		version, operation = parts[1], parts[2]
	case r.Method == http.MethodPost && len(parts) == 2:
		operation = parts[1] // the client omits an empty version
	default:
		return nil, refusal{status: http.StatusNotFound, code: "NotFound"}
	}
	// Only after the body has been read does the context end when the client gives up.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if err := s.fault(operation).before(r.Context()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, operation)
	v, err := s.version(name, version)
	if err != nil {
		return nil, err
	}
	if operation == "get" {
		return v.bundle(s.KeyID(name)), nil
	}
	if v.disabled {
		return nil, refusal{http.StatusForbidden, "Forbidden", "KeyDisabled"}
	}
	var p parameters
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, err
	}
	out, err := v.do(operation, p)
	if err != nil {
		return nil, err
	}
	out["kid"] = fmt.Sprintf("%s/%s", s.KeyID(name), v.name)
	return out, nil
}
