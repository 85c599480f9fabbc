// Package requests counts the requests to key services that are made for a piece of
// work, for a program that shows what the service bills.
package requests

import (
	"context"
	"sync/atomic"
)

type key struct{}

// Counted returns a context whose requests n counts. A
// request that several callers share counts for the first of them.
func Counted(ctx context.Context, n *atomic.Int64) context.Context {
	return context.WithValue(ctx, key{}, n)
}

// Counter returns the counter of a context, or nil.
func Counter(ctx context.Context) *atomic.Int64 {
	n, _ := ctx.Value(key{}).(*atomic.Int64)
	return n
}
