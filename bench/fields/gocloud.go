package fields

import (
	"context"

	"gocloud.dev/secrets/localsecrets"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
)

// goCloud seals each field under the key itself, which would be a call to a key
// service for every field that is read or written.
func goCloud() store {
	ctx := context.Background()
	keeper := localsecrets.NewKeeper(job.OrPanic(localsecrets.NewRandomKey()))
	return eachField(store{
		name: "gocloud secrets", module: "gocloud.dev",
		otherwise: "no data keys: five calls to a key service where we make one; XSalsa20-Poly1305; binds a column to nothing; no commitment",
	}, func(plaintext, _ []byte) ([]byte, error) { return keeper.Encrypt(ctx, plaintext) },
		func(sealed, _ []byte) ([]byte, error) { return keeper.Decrypt(ctx, sealed) })
}
