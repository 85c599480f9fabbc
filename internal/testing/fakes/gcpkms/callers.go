package gcpkms

import (
	"context"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Admit restricts who may call, by the bearer token: the tokens of all others have
// expired.
func (s *Server) Admit(admits func(token string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admits = admits
}

func (s *Server) authenticate(ctx context.Context) error {
	s.mu.Lock()
	admits := s.admits
	s.mu.Unlock()
	if admits == nil {
		return nil
	}
	for _, value := range metadata.ValueFromIncomingContext(ctx, "authorization") {
		if token, ok := strings.CutPrefix(value, "Bearer "); ok && admits(token) {
			return nil
		}
	}
	return status.Error(codes.Unauthenticated, "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.")
}

// InProcess is a client whose requests reach the server without a network, so that
// a test can run under testing/synctest. The code of the official client retries
// calls according to their options.
type InProcess struct{ Server *Server }

func (c InProcess) invoke(ctx context.Context, method string, request any, handler grpc.UnaryHandler, options []gax.CallOption) (answer any, err error) {
	err = gax.Invoke(ctx, func(ctx context.Context, _ gax.CallSettings) (err error) {
		answer, err = c.Server.intercept(ctx, request, &grpc.UnaryServerInfo{FullMethod: "/" + method}, handler)
		return err
	}, options...)
	return answer, err
}

// Encrypt calls the method of the service.
func (c InProcess) Encrypt(ctx context.Context, r *kmspb.EncryptRequest, options ...gax.CallOption) (*kmspb.EncryptResponse, error) {
	answer, err := c.invoke(ctx, "Encrypt", r, func(ctx context.Context, r any) (any, error) {
		return c.Server.Encrypt(ctx, r.(*kmspb.EncryptRequest))
	}, options)
	out, _ := answer.(*kmspb.EncryptResponse)
	return out, err
}

// Decrypt calls the method of the service.
func (c InProcess) Decrypt(ctx context.Context, r *kmspb.DecryptRequest, options ...gax.CallOption) (*kmspb.DecryptResponse, error) {
	answer, err := c.invoke(ctx, "Decrypt", r, func(ctx context.Context, r any) (any, error) {
		return c.Server.Decrypt(ctx, r.(*kmspb.DecryptRequest))
	}, options)
	out, _ := answer.(*kmspb.DecryptResponse)
	return out, err
}

// GetCryptoKey calls the method of the service.
func (c InProcess) GetCryptoKey(ctx context.Context, r *kmspb.GetCryptoKeyRequest, options ...gax.CallOption) (*kmspb.CryptoKey, error) {
	answer, err := c.invoke(ctx, "GetCryptoKey", r, func(ctx context.Context, r any) (any, error) {
		return c.Server.GetCryptoKey(ctx, r.(*kmspb.GetCryptoKeyRequest))
	}, options)
	out, _ := answer.(*kmspb.CryptoKey)
	return out, err
}
