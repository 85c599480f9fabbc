package gcp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/recordings"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
)

// TestRecordedSessions replays what the real service answered.
func TestRecordedSessions(t *testing.T) {
	t.Parallel()
	calls := 0
	for name, data := range recordings.Sessions(t, "gcpkms") {
		t.Run(name, func(t *testing.T) {
			session := parseSession(t, data)
			for i := 0; i+1 < len(session); i += 2 {
				replay(t, session[i], session[i+1])
				calls++
			}
		})
	}
	if calls < 10 {
		t.Errorf("replayed %d calls, want at least 10", calls)
	}
}

// parseSession reads a file of cloud.google.com/go/rpcreplay: the text
// "RPCReplay", some bytes of the recorder's, then requests and answers in turn.
// Each is preceded by its length, and field 3 is the message.
func parseSession(t *testing.T, data []byte) (messages []proto.Message) {
	t.Helper()
	data, ok := bytes.CutPrefix(data, []byte("RPCReplay"))
	if !ok {
		t.Fatal("not a recording")
	}
	next := func() []byte {
		size := binary.LittleEndian.Uint32(data)
		record := data[4 : 4+size]
		data = data[4+size:]
		return record
	}
	next()
	for len(data) > 0 {
		for entry := next(); len(entry) > 0; {
			number, kind, n := protowire.ConsumeTag(entry)
			size := protowire.ConsumeFieldValue(number, kind, entry[n:])
			if n < 0 || size < 0 {
				t.Fatal("damaged recording")
			}
			if number == 3 {
				content, _ := protowire.ConsumeBytes(entry[n:])
				var message anypb.Any
				must(t, proto.Unmarshal(content, &message))
				unpacked, err := message.UnmarshalNew()
				must(t, err)
				messages = append(messages, unpacked)
			}
			entry = entry[n+size:]
		}
	}
	return messages
}

func replay(t *testing.T, request, answer proto.Message) {
	t.Helper()
	client := &replaying{t: t, request: request, answer: answer}
	_, refused := answer.(*rpcstatus.Status)
	switch r := request.(type) {
	case *kmspb.EncryptRequest:
		// The recorded request carries no checksum, so the answer confirms none.
		p := newProvider(t, client, r.Name)
		_, err := p.Encrypt(t.Context(), r.Plaintext, textContext(t, r.AdditionalAuthenticatedData))
		fails(t, err, kmsencrypted.ErrUnavailable)
		confirmed := answer.(*kmspb.EncryptResponse)
		confirmed.VerifiedPlaintextCrc32C, confirmed.VerifiedAdditionalAuthenticatedDataCrc32C = true, true
		ciphertext, err := p.Encrypt(t.Context(), r.Plaintext, textContext(t, r.AdditionalAuthenticatedData))
		if err != nil || !bytes.Equal(ciphertext, confirmed.Ciphertext) {
			t.Errorf("Encrypt = %x, %v, want %x", ciphertext, err, confirmed.Ciphertext)
		}
	case *kmspb.DecryptRequest:
		p := newProvider(t, client, r.Name)
		plaintext, err := p.Decrypt(t.Context(), r.Ciphertext, textContext(t, r.AdditionalAuthenticatedData))
		if opened, ok := answer.(*kmspb.DecryptResponse); ok && (err != nil || !bytes.Equal(plaintext, opened.Plaintext)) {
			t.Errorf("Decrypt = %q, %v, want %q", plaintext, err, opened.Plaintext)
		}
		if refused != errors.Is(err, kmsencrypted.ErrDecrypt) {
			t.Errorf("Decrypt: error = %v, recorded is %v", err, answer)
		}
	default:
		t.Errorf("unknown request %T", request)
	}
}

func newProvider(t *testing.T, client gcp.Client, name string) *gcp.Provider {
	t.Helper()
	p, err := gcp.New(client, name, gcp.Options{})
	must(t, err)
	return p
}

func textContext(t *testing.T, data []byte) kmsencrypted.BoundContext {
	if data == nil {
		return kmsencrypted.BoundContext{}
	}
	return bind(t, kmsencrypted.TextContext(data))
}

// replaying answers the recorded request, apart from checksums.
type replaying struct {
	gcp.Client
	t               *testing.T
	request, answer proto.Message
}

func (c *replaying) call(got proto.Message) error {
	c.t.Helper()
	if !proto.Equal(got, c.request) {
		c.t.Errorf("sent %v, want %v", got, c.request)
	}
	if failed, ok := c.answer.(*rpcstatus.Status); ok {
		return status.ErrorProto(failed)
	}
	return nil
}

func (c *replaying) Encrypt(_ context.Context, r *kmspb.EncryptRequest, _ ...gax.CallOption) (*kmspb.EncryptResponse, error) {
	bare := proto.Clone(r).(*kmspb.EncryptRequest)
	bare.PlaintextCrc32C, bare.AdditionalAuthenticatedDataCrc32C = nil, nil
	if err := c.call(bare); err != nil {
		return nil, err
	}
	return c.answer.(*kmspb.EncryptResponse), nil
}

func (c *replaying) Decrypt(_ context.Context, r *kmspb.DecryptRequest, _ ...gax.CallOption) (*kmspb.DecryptResponse, error) {
	bare := proto.Clone(r).(*kmspb.DecryptRequest)
	bare.CiphertextCrc32C, bare.AdditionalAuthenticatedDataCrc32C = nil, nil
	if err := c.call(bare); err != nil {
		return nil, err
	}
	return proto.Clone(c.answer).(*kmspb.DecryptResponse), nil
}
