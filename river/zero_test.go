package kmsriver_test

import (
	"testing"

	"github.com/riverqueue/river"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	kmsriver "github.com/kmsencrypted/kmsencrypted/river"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Without a client, a Rotator or a Worker there is an error and no panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	zerotest.Calls(t, map[string]func() error{
		"NewWorker(nil)":     func() error { _, err := kmsriver.NewWorker(nil); return err },
		"NewWorker of zero":  func() error { _, err := kmsriver.NewWorker(new(rotation.Rotator)); return err },
		"Worker{}.Work":      func() error { return new(kmsriver.Worker).Work(ctx, &river.Job[kmsriver.Job]{}) },
		"Worker{}.Work(nil)": func() error { return new(kmsriver.Worker).Work(ctx, nil) },
		"nil Worker.Work":    func() error { return (*kmsriver.Worker)(nil).Work(ctx, nil) },
		"Start(nil, nil)":    func() error { _, err := kmsriver.Start(ctx, nil, nil); return err },
		"Start(nil, zero)":   func() error { _, err := kmsriver.Start(ctx, nil, new(rotation.Rotator)); return err },
	})
}
