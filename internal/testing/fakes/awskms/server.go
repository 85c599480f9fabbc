// Package awskms is a stand-in for AWS KMS: an HTTP server that speaks the
// service's JSON protocol to the official SDK. Ciphertexts are real AEAD over
// key and context, so a test against it fails where the service would fail.
// Only tests import it.
//
// It follows sessions recorded against the service and, where there is none, the
// service's documentation. It has no grants, key policies or asymmetric keys;
// [Fault] denies and breaks operations instead.
package awskms

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// The account of every key, and the region of a server unless [Server.InRegion]
// changes it.
const (
	Account = "123456789012"
	Region  = "us-east-1"
)

// Server is one account's KMS in one region. It is safe for concurrent use.
type Server struct {
	URL string

	http   *httptest.Server
	region string

	*account
	ahead   time.Duration                 // of the clock
	admits  func(accessKeyID string) bool // nil admits everybody
	keys    map[string]*key               // by key id
	aliases map[string]string             // alias name to key id
	faults  []*Fault
	calls   []Call
}

// Call is a request as it arrived.
type Call struct {
	Op   string
	Body map[string]any // the JSON object that was sent
	// Context is the EncryptionContext; nil if none was sent, which differs from an
	// empty one. ReEncrypt has one for each side.
	Context, SourceContext, DestinationContext map[string]string
}

// New starts a server without keys on the loopback interface. The caller closes it.
func New() *Server {
	return (&account{regions: map[string]*Server{}}).start(Region)
}

func (a *account) start(region string) *Server {
	s := &Server{region: region, account: a, keys: map[string]*key{}, aliases: map[string]string{}}
	a.mu.Lock()
	a.regions[region] = s
	a.mu.Unlock()
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	s.URL = s.http.URL
	return s
}

// Close stops the server and aborts hanging calls.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// Client returns an SDK client for this server that makes one attempt per call
// unless an option changes it.
func (s *Server) Client(options ...func(*kms.Options)) *kms.Client {
	return kms.New(kms.Options{
		Region:           s.region,
		BaseEndpoint:     aws.String(s.URL),
		Credentials:      credentials.NewStaticCredentialsProvider("id", "secret", ""),
		RetryMaxAttempts: 1,
	}, options...)
}

// Calls returns the requests so far, in order of arrival, of the given operations or
// of all.
func (s *Server) Calls(ops ...string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.calls), func(c Call) bool {
		return len(ops) > 0 && !slices.Contains(ops, c.Op)
	})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	op, isKMS := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	if fault := s.record(op, body); fault != nil && fault.serve(w, r) {
		return
	}
	operation := operations[op]
	refused := s.authenticate(r)
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	switch {
	case !isKMS || operation == nil:
		reply(w, nil, failure("UnknownOperationException", ""))
	case refused != nil:
		reply(w, nil, refused)
	default:
		s.mu.Lock()
		answer, err := operation(s, body)
		s.mu.Unlock()
		reply(w, answer, err)
	}
}

// record stores the call and returns the fault for it, if any.
func (s *Server) record(op string, body []byte) *Fault {
	call := Call{Op: op}
	var contexts struct {
		EncryptionContext, SourceEncryptionContext, DestinationEncryptionContext map[string]string
	}
	// A body that is not JSON is refused by the operation.
	if json.Unmarshal(body, &call.Body) == nil && json.Unmarshal(body, &contexts) == nil {
		call.Context = contexts.EncryptionContext
		call.SourceContext = contexts.SourceEncryptionContext
		call.DestinationContext = contexts.DestinationEncryptionContext
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
	return s.nextFault(op)
}

// operations are called with the lock held.
var operations = func() map[string]func(*Server, []byte) (any, error) {
	all := map[string]func(*Server, []byte) (any, error){}
	maps.Copy(all, cryptographic)
	maps.Copy(all, administrative)
	return all
}()

// handle converts a function on typed requests and answers to an operation.
func handle[In any](f func(*Server, In) (any, error)) func(*Server, []byte) (any, error) {
	return func(s *Server, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, failure("SerializationException", "")
		}
		return f(s, in)
	}
}

func reply(w http.ResponseWriter, answer any, err error) {
	status := http.StatusOK
	if failed, ok := errors.AsType[*apiError](err); ok {
		status, answer = failed.status(), failed
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	if answer != nil {
		json.NewEncoder(w).Encode(answer)
	}
}
