package s3ec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

// markName is the name of the object that holds the identity of a store. Package files/gocloud
// has the same, so that a store is the same whether a service encrypts or not.
const markName = "kms-store"

// maxMark limits an identity in bytes.
const maxMark = 190

// Identity returns a text that no other store has, and makes one, in an object that is
// not encrypted, if there is none. It stays the same when the objects are copied. The errors are
// those of the store, and [kmsencrypted.ErrMalformed] for an object of this name that is
// no identity.
func (c *Client) Identity(ctx context.Context) (string, error) {
	if err := c.usable(); err != nil {
		return "", err
	}
	mark, err := c.mark(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		id := strings.ToLower(rand.Text())
		_, err = c.store.Put(ctx, markName, Upload{
			Body: strings.NewReader(id), Size: int64(len(id)), Headers: Headers{ContentType: "text/plain"}, IfNotExist: true,
		})
		if err == nil || errors.Is(err, fs.ErrExist) {
			mark, err = c.mark(ctx) // of whoever was faster
		}
	}
	return mark, failed("identify", markName, err)
}

// mark reads the identity.
func (c *Client) mark(ctx context.Context) (string, error) {
	object, err := c.store.Get(ctx, markName, Range{})
	if err != nil {
		return "", err
	}
	defer object.Body.Close()
	text, err := io.ReadAll(io.LimitReader(object.Body, maxMark+1))
	if err == nil && (len(text) == 0 || len(text) > maxMark) {
		err = fmt.Errorf("%w: an identity has 1 to %d bytes", kmsencrypted.ErrMalformed, maxMark)
	}
	return string(text), err
}
