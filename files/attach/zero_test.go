package attach_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
)

// An upload without a record or a source fails before anything is stored.
func TestUploadOfNothing(t *testing.T) {
	t.Parallel()
	w, rails := newWorld(t, sqlite, nil), newRailsWorld(t)
	ctx, c, o, text := t.Context(), w.insert(t, 1), attach.Options{}, strings.NewReader("x")
	for _, try := range []struct {
		name string
		do   func() error
	}{
		{"Upload, nil record", func() error { _, err := w.manager.Upload(ctx, nil, "license", text, o); return err }},
		{"Upload, nil reader", func() error { _, err := w.manager.Upload(ctx, c, "license", nil, o); return err }},
		{"Replace, nil record", func() error { _, err := w.manager.Replace(ctx, nil, &attach.Attachment{}, text, o); return err }},
		{"Replace, nil attachment", func() error { _, err := w.manager.Replace(ctx, c, nil, text, o); return err }},
		{"Replace, nil reader", func() error { _, err := w.manager.Replace(ctx, c, &attach.Attachment{}, nil, o); return err }},
		{"Rails Upload, nil record", func() error { _, err := rails.rails.Upload(ctx, nil, "photo", text, o); return err }},
		{"Rails Upload, nil reader", func() error { _, err := rails.rails.Upload(ctx, &document{ID: 1}, "photo", nil, o); return err }},
	} {
		if err := try.do(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s = %v, want ErrConfig", try.name, err)
		}
	}
	if left := w.memory.Names(); len(left) != 0 {
		t.Errorf("the bucket holds %v, want nothing", left)
	}
}

// What nobody set up, and nil where something is needed, is an error and no panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	ctx, w, rails := t.Context(), newWorld(t, sqlite, nil), newRailsWorld(t)
	needNothing := []string{"CreateTables", "Count", "Find", "Sweep", "WrapKeys", "Adopted"}
	zerotest.Methods(t, w.manager, needNothing...)
	zerotest.Methods(t, rails.rails, needNothing...)

	config := attach.Config{One: []string{"license"}, Buckets: map[string]attach.Bucket{"memory": new(attach.Memory)}}
	var noDir *attach.Dir
	zerotest.Calls(t, map[string]func() error{
		"New of a nil db":    func() error { _, err := attach.New(ctx, nil, field.SQLite, w.model, config); return err },
		"New of a nil model": func() error { _, err := attach.New[customer](ctx, w.db, field.SQLite, nil, config); return err },
		"New of a zero model": func() error {
			_, err := attach.New(ctx, w.db, field.SQLite, new(field.Model[customer]), config)
			return err
		},
		"New of a zero Config": func() error { _, err := attach.New(ctx, w.db, field.SQLite, w.model, attach.Config{}); return err },
		"New of a nil bucket": func() error {
			nothing := attach.Config{One: config.One, Buckets: map[string]attach.Bucket{"dir": noDir}}
			_, err := attach.New(ctx, w.db, field.SQLite, w.model, nothing)
			return err
		},
		"NewRails of a nil db": func() error {
			_, err := attach.NewRails[document](ctx, nil, field.SQLite, nil, attach.RailsConfig[document]{})
			return err
		},
		"NewRails of a nil model": func() error {
			_, err := attach.NewRails[document](ctx, w.db, field.SQLite, nil, attach.RailsConfig[document]{})
			return err
		},
		"Memory.Put(nil)":   func() error { return new(attach.Memory).Put(ctx, "name", nil) },
		"CreateTables(nil)": func() error { return attach.CreateTables(ctx, nil, field.SQLite) },
	})
}
