package gcp_test

import (
	"context"
	"testing"

	"cloud.google.com/go/kms/apiv1"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/kmsencrypted/kmsencrypted/internal/reason"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
)

// The reason is in the header that Google's audit logs show, and nowhere without one.
func TestReason(t *testing.T) {
	t.Parallel()
	s := start(t)
	var sent []string
	client, err := kms.NewKeyManagementClient(t.Context(), option.WithEndpoint(s.Addr), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithUnaryInterceptor(func(ctx context.Context, method string, in, out any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
			headers, _ := metadata.FromOutgoingContext(ctx)
			sent = headers.Get("x-goog-request-reason")
			return invoke(ctx, method, in, out, cc, o...)
		})))
	must(t, err)
	t.Cleanup(func() { client.Close() })
	p, err := gcp.New(client, keyName, gcp.Options{})
	must(t, err)
	sealed, err := p.Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	if len(sent) > 0 {
		t.Errorf("without a reason the header is %q", sent)
	}
	_, err = p.Decrypt(reason.With(t.Context(), "T-1 für\nAda"), sealed, bind(t, user))
	must(t, err)
	if len(sent) != 1 || sent[0] != "T-1 f?r?Ada" {
		t.Errorf("header = %q", sent)
	}
}
