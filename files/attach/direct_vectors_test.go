package attach

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// File keys that the key service wraps, as spec/files.md section 4.1 says.
func TestNativeDirectKeyVectors(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(vectors.Root(), "testdata", "files", "direct.json"))
	if err != nil {
		t.Fatal(err)
	}
	var content struct {
		Cases []struct {
			Name       string
			Context    [][2]string
			Table      string
			RecordID   string `json:"record_id"`
			Attachment string
			FileID     vectors.Hex `json:"file_id"`
			Parent     vectors.Hex
			RecordKey  string `json:"record_key"`
			KeyContext string `json:"key_context"`
			Wrapped    string
			Key        vectors.Hex
		}
	}
	if err := json.Unmarshal(data, &content); err != nil {
		t.Fatal(err)
	}
	vectors.Ran(t, "direct.json", len(content.Cases))
	box, err := kmsencrypted.NewBox(vectors.NativeProvider{Name: "one", Tag: "vector one"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range content.Cases {
		a := &Attachment{Table: c.Table, RecordID: []string{c.RecordID}, File: files.ID(c.FileID)}
		a.Name, a.Variant, _ = strings.Cut(c.Attachment, "/")
		if len(c.Parent) > 0 {
			a.parent = files.ID(c.Parent)
		}
		record := kmsencrypted.OrderedContext{}
		for _, p := range c.Context {
			record = append(record, kmsencrypted.Pair{Name: p[0], Value: p[1]})
		}
		d, err := parseDirect(c.Wrapped)
		if err != nil || d.String() != c.Wrapped || d.record != c.RecordKey {
			t.Errorf("%s: parsed = %+v, %v", c.Name, d, err)
		}
		ec := kmsencrypted.ContextWith(record, d.pairs(a)...)
		if bound, err := kmsencrypted.Bind(ec); err != nil || bound.String() != c.KeyContext {
			t.Errorf("%s: context = %s, %v, want %s", c.Name, bound, err, c.KeyContext)
		}
		key, err := box.Decrypt(t.Context(), d.secret, ec)
		if err != nil || !bytes.Equal(key, c.Key) {
			t.Errorf("%s: Decrypt = %x, %v, want %x", c.Name, key, err, c.Key)
		}
		other := *a
		other.RecordID = []string{"8"}
		if _, err := box.Decrypt(t.Context(), d.secret, kmsencrypted.ContextWith(record, d.pairs(&other)...)); err == nil {
			t.Errorf("%s: opens for another record", c.Name)
		}
		if d.record != "" {
			d.record = strings.Repeat("0", 64)
			if _, err := box.Decrypt(t.Context(), d.secret, kmsencrypted.ContextWith(record, d.pairs(a)...)); err == nil {
				t.Errorf("%s: opens for another data key", c.Name)
			}
		}
	}
}
