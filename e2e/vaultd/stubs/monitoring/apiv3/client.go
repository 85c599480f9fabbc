// Package monitoring takes the place of a metrics client that the test server
// does not use.
package monitoring

import (
	"context"
	"errors"

	"google.golang.org/api/option"
)

// NewMetricClient fails.
func NewMetricClient(context.Context, ...option.ClientOption) (any, error) {
	return nil, errors.New("monitoring: not part of the test server")
}
