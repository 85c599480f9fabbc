// Package gcpckms takes the place of a wrapper for automatic unsealing, which the
// test server does not use.
package gcpckms

import wrapping "github.com/hashicorp/go-kms-wrapping/v2"

// Wrapper is never called: the nil interface would panic.
type Wrapper struct{ wrapping.Wrapper }

// NewWrapper satisfies the server's switch over wrappers.
func NewWrapper() *Wrapper { return &Wrapper{} }
