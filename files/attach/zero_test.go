package attach_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
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
