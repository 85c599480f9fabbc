package files_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// What nobody has set up returns an error instead of a panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	ctx, key := t.Context(), files.NewKey()
	place := files.Place{Format: files.Native, Table: "t", ID: []string{"1"}, Attachment: "scan", File: files.NewID()}
	wrapped, err := files.WrapKey(kmsencrypted.NewDataKey(), key, place)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		try  func() error
	}{
		{"Writer{}.Write", func() error { _, err := new(files.Writer).Write([]byte("x")); return err }},
		{"Writer{}.ReadFrom", func() error { _, err := new(files.Writer).ReadFrom(strings.NewReader("x")); return err }},
		{"Writer{}.Close", func() error { return new(files.Writer).Close() }},
		{"NewWriter(nil)", func() error { _, err := files.NewWriter(ctx, nil, key, files.Options{}); return err }},
		{"Reader{}.Read", func() error { _, err := new(files.Reader).Read(make([]byte, 1)); return err }},
		{"Reader{}.WriteTo", func() error { _, err := new(files.Reader).WriteTo(io.Discard); return err }},
		{"NewReader(nil)", func() error { _, err := files.NewReader(ctx, nil, key, files.Options{}); return err }},
		{"ReaderAt{}.ReadAt", func() error { _, err := new(files.ReaderAt).ReadAt(make([]byte, 1), 0); return err }},
		{"NewReaderAt(nil)", func() error { _, err := files.NewReaderAt(ctx, nil, 1000, key); return err }},
		{"Wrapper{}.Wrap", func() error { _, err := new(files.Wrapper).Wrap(key, place); return err }},
		{"Wrapper{}.Unwrap", func() error { _, err := new(files.Wrapper).Unwrap(wrapped, place); return err }},
		{"WrapKey, no place", func() error { _, err := files.WrapKey(kmsencrypted.NewDataKey(), key, files.Place{}); return err }},
		{"KeyFrom(nil)", func() error { _, err := files.KeyFrom(nil); return err }},
	} {
		if err := c.try(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s = %v, want ErrConfig", c.name, err)
		}
	}
}
