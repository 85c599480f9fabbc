package aws_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
)

// TestObserver: the attempts of the SDK are seen, and under which key material a
// data key was.
func TestObserver(t *testing.T) {
	t.Parallel()
	s := start(t)
	id := s.AddKey("k")
	p, err := aws.Open(t.Context(), id, aws.Options{Load: load(s)})
	must(t, err)
	var last kmsencrypted.Event
	box, err := kmsencrypted.Config{
		Current:  1,
		Versions: map[int]kmsencrypted.Version{1: {Provider: p}},
		Observer: func(_ context.Context, e kmsencrypted.Event) { last = e },
	}.Box()
	must(t, err)
	ec := kmsencrypted.Context{"purpose": "test"}
	s.Inject(awskms.Fault{Error: "ThrottlingException", Times: 1})
	column, err := box.Encrypt(t.Context(), []byte("x"), ec)
	must(t, err)
	if last.Attempts != 2 || last.KeyVersion != "" {
		t.Errorf("a wrap that was throttled once: %+v, want two attempts", last)
	}
	_, err = box.Decrypt(t.Context(), column, ec)
	must(t, err)
	if last.Attempts != 1 || len(last.KeyVersion) != 64 {
		t.Errorf("an unwrap: %+v, want one attempt and the id of key material", last)
	}
	before := last.KeyVersion
	_, err = s.Client().RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id})
	must(t, err)
	_, err = box.Decrypt(t.Context(), column, ec)
	must(t, err)
	if last.KeyVersion != before {
		t.Errorf("after a rotation the old wrap is under %s, want %s", last.KeyVersion, before)
	}
}
