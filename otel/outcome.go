package kmsotel

import (
	"context"
	"errors"

	"github.com/kmsencrypted/kmsencrypted"
)

const (
	succeeded = "ok"
	unknown   = "other"
)

// outcomes maps errors to outcomes; the first match counts. For joined errors,
// permanent errors come before transient ones. The ends of the caller's context
// come last, because an outage may have one as its cause.
var outcomes = [...]struct {
	name string
	err  error
}{
	{"decrypt", kmsencrypted.ErrDecrypt},
	{"binding", kmsencrypted.ErrBinding},
	{"denied", kmsencrypted.ErrDenied},
	{"key_unusable", kmsencrypted.ErrKeyUnusable},
	{"config", kmsencrypted.ErrConfig},
	{"context", kmsencrypted.ErrContext},
	{"malformed", kmsencrypted.ErrMalformed},
	{"too_large", kmsencrypted.ErrTooLarge},
	{"throttled", kmsencrypted.ErrThrottled},
	{"unavailable", kmsencrypted.ErrUnavailable},
	{"deadline_exceeded", context.DeadlineExceeded},
	{"canceled", context.Canceled},
}

// outcomeOf checks the main error before all its causes, because several
// providers may have failed in different ways.
func outcomeOf(err error) string {
	if err == nil {
		return succeeded
	}
	if located, ok := errors.AsType[*kmsencrypted.Error](err); ok {
		if name := classOf(located.Err); name != unknown {
			return name
		}
	}
	return classOf(err)
}

func classOf(err error) string {
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.name
		}
	}
	return unknown
}
