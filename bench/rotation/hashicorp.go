package rotation

import (
	"context"
	"encoding/base64"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/v2/aead"
	"google.golang.org/protobuf/proto"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// hashicorp decrypts and encrypts one wrapped key of each record.
func hashicorp() mover {
	old, current := newWrapper(), newWrapper()
	open := func(w *aead.Wrapper) func(int, string) ([]byte, error) {
		return func(id int, column string) ([]byte, error) { return unwrap(w, column, id) }
	}
	return mover{
		name: "HashiCorp go-kms-wrapping", module: "github.com/hashicorp/go-kms-wrapping/v2",
		otherwise: "has no commitment to check and to renew; five wrapped keys for a record of five fields, of which this is one",
		wrap:      func(id int) (string, error) { return wrap(old, limit.Random(32), id) },
		move: each(func(id int, column string) (string, error) {
			key, err := unwrap(old, column, id)
			if err != nil {
				return "", err
			}
			return wrap(current, key, id)
		}),
		before: open(old), after: open(current),
	}
}

func newWrapper() *aead.Wrapper {
	w := aead.NewWrapper()
	job.Must(w.SetAesGcmKeyBytes(limit.Random(32)))
	return w
}

func wrap(w *aead.Wrapper, key []byte, id int) (string, error) {
	blob, err := w.Encrypt(context.Background(), key, wrapping.WithAad(limit.AppendContext(nil, id)))
	if err != nil {
		return "", err
	}
	wrapped, err := proto.Marshal(blob)
	return base64.StdEncoding.EncodeToString(wrapped), err
}

func unwrap(w *aead.Wrapper, column string, id int) ([]byte, error) {
	wrapped, err := base64.StdEncoding.DecodeString(column)
	if err != nil {
		return nil, err
	}
	var blob wrapping.BlobInfo
	if err := proto.Unmarshal(wrapped, &blob); err != nil {
		return nil, err
	}
	return w.Decrypt(context.Background(), &blob, wrapping.WithAad(limit.AppendContext(nil, id)))
}
