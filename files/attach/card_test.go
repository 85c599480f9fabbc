package attach

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// recoveryCase is a case of testdata/files/recovery.json.
type recoveryCase struct {
	Name, Text, Error, Context string
	Plaintext, Key             vectors.Hex
	FileID                     vectors.Hex `json:"file_id"`
	Row                        struct {
		Table, Name, Variant, ID, Bucket, Object, Format string
		IDs                                              []string
		Parent                                           string `json:"parent_id"`
		FileName                                         string `json:"file_name"`
		ContentType                                      string `json:"content_type"`
		Size, Created, Written                           int64
		ObjectSize                                       int64 `json:"object_size"`
		ParentCreated                                    int64 `json:"parent_created"`
	}
}

func (c recoveryCase) card(t *testing.T) card {
	t.Helper()
	key, err := files.KeyFrom(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	r := c.Row
	return card{key: key, written: r.Written, a: Attachment{ID: r.ID, Table: r.Table, RecordID: r.IDs, Name: r.Name, Variant: r.Variant, Parent: r.Parent,
		Bucket: r.Bucket, Object: r.Object, Format: files.Format(r.Format), File: files.ID(c.FileID), Size: r.Size, ObjectSize: r.ObjectSize,
		FileName: r.FileName, ContentType: r.ContentType, Created: time.UnixMilli(r.Created).UTC(), parentCreated: r.ParentCreated}}
}

func recoveryVectors(t testing.TB) []recoveryCase {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectors.Root(), "testdata", "files", "recovery.json"))
	if err != nil {
		t.Fatal(err)
	}
	var content struct {
		Source, Section string
		Cases           []recoveryCase
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&content); err != nil {
		t.Fatal(err)
	}
	return content.Cases
}

// Recovery wraps, as spec/files.md section 4.2 says.
func TestNativeRecoveryVectors(t *testing.T) {
	t.Parallel()
	box, err := kmsencrypted.NewBox(vectors.NativeProvider{Name: "one", Tag: "vector one"})
	if err != nil {
		t.Fatal(err)
	}
	r, cases := Recovery{Box: box, Store: "shop"}, recoveryVectors(t)
	vectors.Ran(t, "recovery.json", len(cases))
	for _, c := range cases {
		got, err := r.open(t.Context(), c.Text)
		if c.Error != "" {
			vectors.WantOnly(t, c.Name, err, c.Error)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		want := c.card(t)
		plain, err := want.append(nil)
		if err != nil || !bytes.Equal(plain, c.Plaintext) {
			t.Errorf("%s: plaintext = %x, %v, want %x", c.Name, plain, err, c.Plaintext)
		}
		if again, err := got.append(nil); err != nil || !bytes.Equal(again, c.Plaintext) {
			t.Errorf("%s: read and written again = %x, %v, want %x", c.Name, again, err, c.Plaintext)
		}
		parts, err := parseRecovery(c.Text)
		if want.record = parts.record; err != nil || parts.String() != c.Text {
			t.Errorf("%s: parsed and written again = %s, %v", c.Name, parts, err)
		}
		if bound, err := kmsencrypted.Bind(parts.context(r.Store)); err != nil || bound.String() != c.Context {
			t.Errorf("%s: context = %s, %v, want %s", c.Name, bound, err, c.Context)
		}
		head := len(c.Text) - len(parts.secret)
		text, err := r.seal(t.Context(), want)
		if err != nil || text[:head] != c.Text[:head] {
			t.Errorf("%s: sealed = %s, %v", c.Name, text, err)
		}
		if opened, err := r.open(t.Context(), text); err != nil || opened.a.ID != want.a.ID {
			t.Errorf("%s: sealed and opened = %+v, %v", c.Name, opened.a, err)
		}
	}
}

// A recovery wrap with a byte changed, left out or added opens as no other. (The name of
// the provider in a key column is only a hint.)
func TestRecoveryTamper(t *testing.T) {
	t.Parallel()
	box, err := kmsencrypted.NewBox(vectors.NativeProvider{Name: "one", Tag: "vector one"})
	if err != nil {
		t.Fatal(err)
	}
	all := recoveryVectors(t)
	r := Recovery{Box: box, Store: "shop"}
	for _, good := range []recoveryCase{all[0], all[slices.IndexFunc(all, func(c recoveryCase) bool { return c.Error == "" && strings.HasPrefix(c.Text, keyedRecoveryPrefix) })]} {
		testTamper(t, r, good)
	}
}

func testTamper(t *testing.T, r Recovery, good recoveryCase) {
	text, opened := good.Text, 0
	for i := range text {
		for _, changed := range []string{text[:i] + string(text[i]^1) + text[i+1:], text[:i], text[:i] + text[i+1:], text[:i] + text[i:i+1] + text[i:]} {
			if changed == text {
				continue
			}
			c, err := r.open(t.Context(), changed)
			if err != nil {
				continue
			}
			opened++
			if plaintext, err := c.append(nil); err != nil || !bytes.Equal(plaintext, good.Plaintext) {
				t.Fatalf("changed at %d, it opens as %+v, %v", i, c.a, err)
			}
		}
	}
	if opened > 20 {
		t.Errorf("%d changed texts open", opened)
	}
}

func TestTooLongForARecoveryWrap(t *testing.T) {
	t.Parallel()
	c := recoveryVectors(t)[0].card(t)
	c.a.ContentType = string(make([]byte, maxCard))
	if _, err := c.append(nil); !errors.Is(err, kmsencrypted.ErrTooLarge) {
		t.Errorf("a row of more than %d bytes: %v, want ErrTooLarge", maxCard, err)
	}
}

// What parses is written back the same.
func FuzzCard(f *testing.F) {
	for _, c := range recoveryVectors(f) {
		if len(c.Plaintext) > 0 {
			f.Add([]byte(c.Plaintext))
		}
	}
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCard(data)
		if err != nil {
			if !errors.Is(err, kmsencrypted.ErrMalformed) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if again, err := c.append(nil); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("parsed %x, written %x, %v", data, again, err)
		}
	})
}

// What parses as text is written back the same.
func FuzzRecoveryText(f *testing.F) {
	for _, c := range recoveryVectors(f) {
		f.Add(c.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := parseRecovery(text)
		if err == nil && parts.String() != text {
			t.Fatalf("%q is %+v", text, parts)
		}
	})
}
