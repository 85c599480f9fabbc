package rotatecli

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Each class of failures has a remedy, and there is none for a class that is not one.
func TestRemedies(t *testing.T) {
	t.Parallel()
	classes := map[string]bool{"database": true} // of package sqlstore
	for _, err := range []error{
		kmsencrypted.ErrVersionNotActive, kmsencrypted.ErrVersionRetired, kmsencrypted.ErrNeedsRekey, kmsencrypted.ErrNoDataKey, kmsencrypted.ErrOtherDataKey,
		kmsencrypted.ErrNotCiphertext, kmsencrypted.ErrBinding, kmsencrypted.ErrRecordSeal, kmsencrypted.ErrMalformed, kmsencrypted.ErrType, kmsencrypted.ErrContext,
		kmsencrypted.ErrNoID, kmsencrypted.ErrKeyUnusable, kmsencrypted.ErrNotMigrated, kmsencrypted.ErrStaleIndex, kmsencrypted.ErrDecrypt, kmsencrypted.ErrDenied,
		kmsencrypted.ErrThrottled, kmsencrypted.ErrUnavailable, kmsencrypted.ErrConflict,
	} {
		classes[rotation.FailureClass(err)] = true
	}
	for class := range classes {
		if failureRemedies[class] == "" {
			t.Errorf("no remedy for %s", class)
		}
	}
	for class := range failureRemedies {
		if !classes[class] {
			t.Errorf("a remedy for %s, which is no class", class)
		}
	}
	if remedyFor("other") == "" {
		t.Error("no remedy for other failures")
	}
}

// What an error or a reason quotes does not get on the page.
func TestQuotesStayAway(t *testing.T) {
	t.Parallel()
	quoting := func(err error) error {
		return &kmsencrypted.Error{Op: "wrap", Record: "id=7", KeyID: "k", Err: err, Cause: errors.New("tenant acme")}
	}
	for text, want := range map[string]string{
		quoting(kmsencrypted.ErrThrottled).Error():   "throttled by the key service",
		quoting(kmsencrypted.ErrUnavailable).Error(): "key service unavailable",
		quoting(kmsencrypted.ErrKeyUnusable).Error(): "the key service does not answer as it should",
		rotation.ErrLocked.Error():                   "records are locked by another process",
		"replication lag of 8 s":                     "replication lag of 8 s",
		"":                                           "",
	} {
		if got := reasonFor(text); got != want {
			t.Errorf("reasonFor(%q) = %q, want %q", text, got, want)
		}
	}
	for err, want := range map[error]string{
		quoting(kmsencrypted.ErrDenied):                  "denied",
		fmt.Errorf("acme: %w", context.DeadlineExceeded): "no answer in time",
		errors.New("acme"):                               "other",
	} {
		if got := classInWords(err); got != want {
			t.Errorf("classInWords(%v) = %q, want %q", err, got, want)
		}
	}
}
