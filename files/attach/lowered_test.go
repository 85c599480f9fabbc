package attach_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// A limit that is lowered concerns new files. Those that are there and larger are read and
// encrypted anew.
func TestLowerMaxSize(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	c := w.insert(t, 1)
	content := random(1, 100_000)
	a := w.attach(t, c, "license", content)
	w.config.MaxSize = 1000
	w.use(t, 1)
	moved, err := w.manager.Reencrypt(t.Context(), a, nil)
	must(t, err)
	if moved.Object == a.Object || moved.File == a.File {
		t.Error("Reencrypt made no new object")
	}
	w.holds(t, moved, content)
	w.rotate(t, "rekey", 2)
	w.holds(t, moved, content)
	for _, o := range []attach.Options{{}, {Size: int64(len(content))}} {
		if _, err := w.manager.Replace(t.Context(), c, moved, bytes.NewReader(content), o); !errors.Is(err, attach.ErrSize) {
			t.Errorf("Replace(%+v) = %v, want ErrSize", o, err)
		}
		if _, err := w.manager.Upload(t.Context(), c, "scans", strings.NewReader(strings.Repeat("x", 1001)), o); !errors.Is(err, attach.ErrSize) {
			t.Errorf("Upload(%+v) = %v, want ErrSize", o, err)
		}
	}
	w.holds(t, moved, content)
}
