// Package gcpkms is a stand-in for Google Cloud KMS: a gRPC server that
// implements the service's own interface for the official client. Ciphertexts
// are real AEAD over key, version and additional data. Only tests import it.
//
// It follows recorded sessions of the service and its documentation. It has
// only symmetric encryption; [Fault] refuses, delays and corrupts.
package gcpkms

import (
	"context"
	"net"
	"path"
	"slices"
	"sync"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// Server is the KMS of all projects. It is safe for concurrent use.
type Server struct {
	kmspb.UnimplementedKeyManagementServiceServer

	Addr string // host:port on the loopback interface

	grpc *grpc.Server

	mu     sync.Mutex
	admits func(token string) bool // nil admits everybody
	keys   map[string]*key         // by resource name
	faults []*Fault
	calls  []Call
}

// Call is a request as it arrived.
type Call struct {
	Method  string // "Encrypt", "Decrypt", …
	Request proto.Message
}

// New starts a server without keys. The caller closes it.
func New() *Server {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic("gcpkms: " + err.Error())
	}
	return NewOn(listener)
}

// NewOn starts a server on the given listener.
func NewOn(listener net.Listener) *Server {
	s := &Server{Addr: listener.Addr().String(), keys: map[string]*key{}}
	s.grpc = grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
	kmspb.RegisterKeyManagementServiceServer(s.grpc, s)
	go s.grpc.Serve(listener)
	return s
}

// Close stops the server and aborts hanging calls.
func (s *Server) Close() { s.grpc.Stop() }

// Client returns a client of this server, with the retries of the official
// client. The caller closes it.
func (s *Server) Client(ctx context.Context) (*kms.KeyManagementClient, error) {
	return kms.NewKeyManagementClient(ctx,
		option.WithEndpoint(s.Addr),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
}

// Calls returns the requests so far, in order of arrival, of the given methods
// or of all.
func (s *Server) Calls(methods ...string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.calls), func(c Call) bool {
		return len(methods) > 0 && !slices.Contains(methods, c.Method)
	})
}

func (s *Server) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := path.Base(info.FullMethod)
	message := request.(proto.Message)
	if err := s.authenticate(ctx); err != nil {
		return nil, err
	}
	fault := s.record(method, message)
	if err := fault.before(ctx, message); err != nil {
		return nil, err
	}
	answer, err := handler(ctx, message)
	if err == nil {
		fault.after(answer)
	}
	return answer, err
}

// record stores a copy of the call and returns the fault for it.
func (s *Server) record(method string, request proto.Message) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, Call{method, proto.Clone(request)})
	return s.nextFault(method)
}
