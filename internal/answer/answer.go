// Package answer makes the error of a provider of what its key service answered.
package answer

import (
	"context"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
)

// Means gives a failed call, whose Err is what the client of the service
// returned, the error that this comes down to, with a remedy unless that is
// empty; what the client returned becomes the cause. A nil meaning leaves failed
// as it is. If ctx has ended, its error is the meaning: what a client says of a
// call that was given up says nothing about the service.
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
