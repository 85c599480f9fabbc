package aws_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted/internal/reason"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
)

// agents notes the user agent of each request.
type agents struct {
	awskms.InProcess
	last string
}

func (a *agents) Do(r *http.Request) (*http.Response, error) {
	a.last = r.UserAgent()
	return a.InProcess.Do(r)
}

// The reason is in the user agent, which CloudTrail logs.
func TestReason(t *testing.T) {
	t.Parallel()
	s := start(t)
	seen := &agents{InProcess: awskms.InProcess{Server: s}}
	client := s.Client()
	p, err := aws.New(kms.New(client.Options(), func(o *kms.Options) { o.HTTPClient = seen }), s.AddKey("k"), aws.Options{})
	must(t, err)
	sealed, err := p.Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	if strings.Contains(seen.last, "reason") {
		t.Errorf("without a reason the user agent is %s", seen.last)
	}
	_, err = p.Decrypt(reason.With(t.Context(), "T-4711 für Ada"), sealed, bind(t, user))
	must(t, err)
	if !strings.Contains(seen.last, "reason/T-4711-f-r-Ada") {
		t.Errorf("user agent = %s", seen.last)
	}
}
