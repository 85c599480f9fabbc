package gocloud

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// Sidecars, as spec/buckets.md section 2 says.
func TestNativeSidecarVectors(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(vectors.Root(), "testdata", "files", "sidecars.json"))
	if err != nil {
		t.Fatal(err)
	}
	var content struct {
		Source, Section string
		Cases           []struct {
			Name, Bucket, Object, Text, Error, Context string
			FileID                                     vectors.Hex `json:"file_id"`
			Plaintext, Key                             vectors.Hex
			Attributes                                 *attributes
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&content); err != nil {
		t.Fatal(err)
	}
	vectors.Ran(t, "sidecars.json", len(content.Cases))
	box, err := kmsencrypted.NewBox(vectors.NativeProvider{Name: "one", Tag: "vector one"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range content.Cases {
		b := New(nil, c.Bucket, box, Options{})
		got, err := b.decryptCard(t.Context(), c.Object, c.Text, files.ID(c.FileID))
		if c.Error != "" {
			vectors.WantOnly(t, c.Name, err, c.Error)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if raw, err := got.key.Raw(); err != nil || !bytes.Equal(raw, c.Key) || !reflect.DeepEqual(got.attributes, *c.Attributes) {
			t.Errorf("%s: key %x, %v, attributes %+v, want %x, %+v", c.Name, raw, err, got.attributes, c.Key, *c.Attributes)
		}
		if bound, err := kmsencrypted.Bind(b.options.Context(c.Bucket, c.Object)); err != nil || bound.String() != c.Context {
			t.Errorf("%s: context = %s, %v, want %s", c.Name, bound, err, c.Context)
		}
		text, err := b.encryptCard(t.Context(), c.Object, got)
		if err != nil || text[:len(namedPrefix)] != namedPrefix {
			t.Errorf("%s: written = %s, %v", c.Name, text, err)
		}
	}
}
