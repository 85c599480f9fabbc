// Package reason passes on why a record is opened, to the providers whose key service
// logs it. It is not part of the encryption context and binds nothing.
package reason

import (
	"context"
	"strings"
)

type key struct{}

// With returns a context for calls that are made for a reason.
func With(ctx context.Context, text string) context.Context {
	return context.WithValue(ctx, key{}, header(text))
}

// Of returns the reason, in a form for headers, or "" if there is none.
func Of(ctx context.Context) string {
	text, _ := ctx.Value(key{}).(string)
	return text
}

// most is the length that all services take.
const most = 200

// header replaces what headers do not have: they are printable ASCII.
func header(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return strings.TrimSpace(text[:min(len(text), most)])
}
