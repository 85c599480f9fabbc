package s3client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
)

// A body comes out in parts of the size, whether its own size is known or not, and the
// last part is known as such when it is returned.
func TestParts(t *testing.T) {
	t.Parallel()
	for _, partSize := range []int{1, 7, 1000, firstRead, 3*firstRead + 5} {
		for _, size := range []int{0, 1, partSize - 1, partSize, partSize + 1, 3 * partSize, 3*partSize + 1} {
			for _, announced := range []int{-1, size} {
				body := make([]byte, size)
				for i := range body {
					body[i] = byte(i * 7)
				}
				var reader io.Reader = bytes.NewReader(body)
				if size < 10_000 {
					reader = iotest.OneByteReader(reader)
				}
				what := fmt.Sprintf("%d bytes in parts of %d, announced %d", size, partSize, announced)
				p := newParts(reader, int64(announced), int64(partSize))
				var got []byte
				for last := false; !last; {
					part, is, err := p.next()
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					if !is && len(part) != partSize || len(part) > partSize || len(part) == 0 && size > 0 {
						t.Errorf("%s: a part of %d", what, len(part))
					}
					got, last = append(got, part...), is
				}
				if !bytes.Equal(got, body) {
					t.Errorf("%s: other bytes", what)
				}
			}
		}
	}
	if p := newParts(nil, 1<<40, defaultPart); int64(p.size)*maxParts < 1<<40 {
		t.Errorf("1 TiB in parts of %d are more than %d", p.size, maxParts)
	}
}

// answering is a store that answers with an algorithm and a key, and counts what it was
// told to delete.
type answering struct {
	*s3.Client
	algorithm types.ServerSideEncryption
	key       string
	sent      *s3.PutObjectInput
	deleted   []*s3.DeleteObjectInput
}

func (a *answering) PutObject(_ context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	a.sent = in
	id := "version 1"
	return &s3.PutObjectOutput{ServerSideEncryption: a.algorithm, SSEKMSKeyId: &a.key, VersionId: &id}, nil
}

func (a *answering) DeleteObject(_ context.Context, in *s3.DeleteObjectInput, _ ...func(*s3.Options)) (*s3.DeleteObjectOutput, error) {
	a.deleted = append(a.deleted, in)
	return &s3.DeleteObjectOutput{}, nil
}

func TestConfig(t *testing.T) {
	t.Parallel()
	create := func(client Client, bucket string, o Options) func() error {
		return func() error { _, err := New(client, bucket, o); return err }
	}
	zerotest.Methods(t, new(Store))
	zerotest.Methods(t, (*Store)(nil))
	zerotest.Calls(t, map[string]func() error{
		"no client":       create(nil, "b", Options{}),
		"no bucket":       create(&answering{}, "", Options{}),
		"small parts":     create(&answering{}, "b", Options{PartSize: minPart - 1}),
		"unknown":         create(&answering{}, "b", Options{ServerSide: ServerSide{Algorithm: "rot13"}}),
		"key without KMS": create(&answering{}, "b", Options{ServerSide: ServerSide{Algorithm: "AES256", KMSKeyID: "k"}}),
		"alias":           create(&answering{}, "b", Options{ServerSide: ServerSide{Algorithm: "aws:kms", KMSKeyID: "alias/k"}}),
	})
	if err := create(&answering{}, "b", Options{})(); errors.Is(err, kmsencrypted.ErrConfig) {
		t.Error(err)
	}
}

// The upload says how the store is to encrypt. An object for which the store answers
// otherwise is deleted, that version of it, and the upload fails.
func TestServerSide(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:kms:eu-central-1:123456789012:key/7d1c2f0e"
	kms := types.ServerSideEncryptionAwsKms
	for name, c := range map[string]struct {
		want ServerSide
		got  answering
		ok   bool
	}{
		"nothing asked":     {ServerSide{}, answering{}, true},
		"the key by ARN":    {ServerSide{kms, arn}, answering{algorithm: kms, key: arn}, true},
		"the key by id":     {ServerSide{kms, "7d1c2f0e"}, answering{algorithm: kms, key: arn}, true},
		"the bucket's key":  {ServerSide{Algorithm: kms}, answering{algorithm: kms, key: arn}, true},
		"AES256":            {ServerSide{Algorithm: "AES256"}, answering{algorithm: "AES256"}, true},
		"another key":       {ServerSide{kms, arn}, answering{algorithm: kms, key: arn + "0"}, false},
		"another id":        {ServerSide{kms, "d1c2f0e"}, answering{algorithm: kms, key: arn}, false},
		"another algorithm": {ServerSide{kms, arn}, answering{algorithm: "AES256", key: arn}, false},
		"no answer":         {ServerSide{kms, arn}, answering{}, false},
	} {
		s, err := New(&c.got, "b", Options{ServerSide: c.want, Prefix: "p/"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Put(t.Context(), "f", s3ec.Upload{Body: strings.NewReader("x"), Size: 1})
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrServerSide) {
			t.Errorf("%s: Put = %v", name, err)
		}
		if in := c.got.sent; in.ServerSideEncryption != c.want.Algorithm || aws.ToString(in.SSEKMSKeyId) != c.want.KMSKeyID || *in.Key != "p/f" {
			t.Errorf("%s: sent %q and %q for %s", name, in.ServerSideEncryption, aws.ToString(in.SSEKMSKeyId), *in.Key)
		}
		if deleted := len(c.got.deleted); c.ok != (deleted == 0) || !c.ok && (*c.got.deleted[0].VersionId != "version 1" || *c.got.deleted[0].Key != "p/f") {
			t.Errorf("%s: %d deletions", name, deleted)
		}
	}
}
