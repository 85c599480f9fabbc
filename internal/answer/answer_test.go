package answer

import (
	"context"
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func TestMeans(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancel(t.Context())
	end()
	cause := errors.New("cause")
	for name, tt := range map[string]struct {
		ctx     context.Context
		meaning error
		remedy  string
		err     error // that the result is
		text    string
		kept    bool // the cause is Err still
	}{
		"a meaning":              {t.Context(), kmsencrypted.ErrThrottled, "", kmsencrypted.ErrThrottled, kmsencrypted.ErrThrottled.Error(), false},
		"a remedy":               {t.Context(), kmsencrypted.ErrDenied, "do this", kmsencrypted.ErrDenied, kmsencrypted.ErrDenied.Error() + " (do this)", false},
		"none":                   {t.Context(), nil, "", cause, "cause", true},
		"none, ended":            {ended, nil, "", context.Canceled, context.Canceled.Error(), false},
		"a meaning, but ended":   {ended, kmsencrypted.ErrDenied, "do this", context.Canceled, context.Canceled.Error(), false},
		"a remedy is no meaning": {t.Context(), nil, "do this", cause, "cause", true},
	} {
		got := Means(tt.ctx, &kmsencrypted.Error{Op: "decrypt", Provider: "aws", KeyID: "k", Err: cause}, tt.meaning, tt.remedy)
		if !errors.Is(got.Err, tt.err) || got.Err.Error() != tt.text || (got.Cause == nil) != tt.kept || !tt.kept && got.Cause != cause {
			t.Errorf("%s: %+v, want %q", name, got, tt.text)
		}
		if got.Op != "decrypt" || got.Provider != "aws" || got.KeyID != "k" {
			t.Errorf("%s: %+v has lost its call", name, got)
		}
	}
}
