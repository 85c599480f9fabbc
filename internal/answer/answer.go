// Package answer converts the answer of a key service to the error of a provider.
package answer

import (
	"context"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
)

// Means sets the error of a failed call to meaning, with a remedy unless that is
// empty. The error of the service's client, until then in Err, becomes the cause.
// A nil meaning leaves failed unchanged. If ctx has ended, its error is the
// meaning, because the client's error then says nothing about the service.
func Means(ctx context.Context, failed *kmsencrypted.Error, meaning error, remedy string) *kmsencrypted.Error {
	if err := ctx.Err(); err != nil {
		meaning, remedy = err, ""
	}
	if meaning == nil {
		return failed
	}
	failed.Err, failed.Cause = meaning, failed.Err
	if remedy != "" {
		failed.Err = fmt.Errorf("%w (%s)", meaning, remedy)
	}
	return failed
}
