// Package option takes the place of options for a client that the test server
// does not use.
package option

// ClientOption is empty.
type ClientOption any

// WithUserAgent is empty.
func WithUserAgent(string) ClientOption { return nil }
