package kmsotel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func TestOutcome(t *testing.T) {
	t.Parallel()
	located := func(err, cause error) error {
		return &kmsencrypted.Error{Op: "unwrap", Provider: "vault", Err: err, Cause: cause}
	}
	for _, test := range []struct {
		err  error
		want string
	}{
		{nil, "ok"},
		{kmsencrypted.ErrDecrypt, "decrypt"},
		{kmsencrypted.ErrBinding, "binding"},
		{located(kmsencrypted.ErrDenied, errors.New("status 403")), "denied"},
		{located(fmt.Errorf("%w (enable it again)", kmsencrypted.ErrKeyUnusable), nil), "key_unusable"},
		{kmsencrypted.ErrConfig, "config"},
		{kmsencrypted.ErrContext, "context"},
		{kmsencrypted.ErrMalformed, "malformed"},
		{kmsencrypted.ErrTooLarge, "too_large"},
		{kmsencrypted.ErrThrottled, "throttled"},
		// The provider's own time limit, not the caller's.
		{located(kmsencrypted.ErrUnavailable, context.DeadlineExceeded), "unavailable"},
		{located(context.DeadlineExceeded, errors.New("no answer")), "deadline_exceeded"},
		{located(context.Canceled, nil), "canceled"},
		{errors.New("no credentials"), "other"},
		{errors.Join(kmsencrypted.ErrUnavailable, kmsencrypted.ErrDenied), "denied"},
		// One of two regions is away, the key of the other is disabled: that may pass.
		{located(kmsencrypted.ErrUnavailable, errors.Join(kmsencrypted.ErrUnavailable, kmsencrypted.ErrKeyUnusable)), "unavailable"},
		// The class is that of the inner error.
		{located(errors.New("no value"), kmsencrypted.ErrThrottled), "throttled"},
	} {
		if got := outcomeOf(test.err); got != test.want {
			t.Errorf("outcomeOf(%v) = %q, want %q", test.err, got, test.want)
		}
	}
}

// The list in the package's documentation is the one that dashboards are built from.
func TestOutcomesAreDocumented(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("otel.go")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{succeeded, unknown}
	for _, o := range outcomes {
		names = append(names, o.name)
	}
	for _, name := range names {
		if !strings.Contains(string(source), "\n//\t"+name+" ") {
			t.Errorf("outcome %q is not in the package's documentation", name)
		}
	}
}
