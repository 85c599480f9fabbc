package files

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// loadNative returns the cases of a file in testdata/files, which a program wrote
// from spec/files.md that shares no code with this package.
func loadNative[C any](t *testing.T, file string) []C {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectors.Root(), "testdata", "files", file))
	if err != nil {
		t.Fatal(err)
	}
	var content struct {
		Source, Section string
		Cases           []C
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&content); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	vectors.Ran(t, file, len(content.Cases))
	return content.Cases
}

func vectorKey(t *testing.T, raw vectors.Hex) Key {
	t.Helper()
	k, err := KeyFrom(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// wantError checks that an error is the one that a vector names and no other.
func wantError(t *testing.T, what string, err error, name string) {
	t.Helper()
	if name == "ErrTruncated" {
		if !errors.Is(err, ErrTruncated) {
			t.Errorf("%s: error = %v, want ErrTruncated", what, err)
		}
		name = "ErrMalformed"
	} else if errors.Is(err, ErrTruncated) {
		t.Errorf("%s: error = %v, want %s", what, err, name)
	}
	vectors.WantOnly(t, what, err, name)
}

// objectVector is an object and what it was sealed from.
type objectVector struct {
	Name            string
	Key             vectors.Hex
	FileID          vectors.Hex `json:"file_id"`
	Salt            vectors.Hex
	PlaintextLabel  string      `json:"plaintext_label"`
	PlaintextSize   int         `json:"plaintext_size"`
	PlaintextSHA256 vectors.Hex `json:"plaintext_sha256"`
	Size            int64
	SHA256          vectors.Hex
	Object          vectors.Hex
}

func TestNativeObjectVectors(t *testing.T) {
	t.Parallel()
	for _, c := range loadNative[objectVector](t, "objects.json") {
		plaintext := sha3.SumSHAKE256([]byte(c.PlaintextLabel), c.PlaintextSize)
		if sum := sha256.Sum256(plaintext); !bytes.Equal(sum[:], c.PlaintextSHA256) {
			t.Fatalf("%s: the plaintext is not the one that was sealed", c.Name)
		}
		k := vectorKey(t, c.Key)
		var object bytes.Buffer
		w, err := sealObject(t.Context(), &object, k, Options{}, ID(c.FileID), c.Salt)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, bytes.NewReader(plaintext)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(object.Bytes()); !bytes.Equal(sum[:], c.SHA256) || c.Object != nil && !bytes.Equal(object.Bytes(), c.Object) {
			t.Errorf("%s: sealed = %d bytes, SHA-256 %x, want %d, %x", c.Name, object.Len(), sum, c.Size, c.SHA256)
		}
		if size, err := SealedSize(int64(c.PlaintextSize)); size != c.Size || err != nil {
			t.Errorf("SealedSize(%d) = %d, %v, want %d", c.PlaintextSize, size, err, c.Size)
		}
		if id, err := ReadID(bytes.NewReader(object.Bytes())); err != nil || id.String() != hex.EncodeToString(c.FileID) {
			t.Errorf("%s: ReadID = %v, %v, want %x", c.Name, id, err, c.FileID)
		}
		for name, open := range openers {
			if got, err := open(t, k, object.Bytes()); err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("%s: %s = %d bytes, %v, want %d", c.Name, name, len(got), err, len(plaintext))
			}
		}
	}
}

func TestNativeRefusedVectors(t *testing.T) {
	t.Parallel()
	for _, c := range loadNative[struct {
		Name   string
		Key    vectors.Hex
		Object vectors.Hex
		Error  string
	}](t, "refused.json") {
		for name, open := range openers {
			got, err := open(t, vectorKey(t, c.Key), c.Object)
			wantError(t, c.Name+", "+name, err, c.Error)
			if len(got) != 0 {
				t.Errorf("%s, %s: gave out %d bytes", c.Name, name, len(got))
			}
		}
	}
}

func TestNativeWrappedKeyVectors(t *testing.T) {
	t.Parallel()
	testWrappedKeys(t, "wrapped.json", oldPrefix)
	testWrappedKeys(t, "wrapped2.json", wrapPrefix)
}

func testWrappedKeys(t *testing.T, file, prefix string) {
	t.Helper()
	for _, c := range loadNative[struct {
		Name    string
		DataKey vectors.Hex `json:"data_key"`
		Place   struct {
			Format     Format
			Table      string
			ID         []string
			Attachment string
			FileID     vectors.Hex `json:"file_id"`
			Parent     vectors.Hex
		}
		AssociatedData vectors.Hex `json:"associated_data"`
		Wrapped        string
		Key            vectors.Hex
		Error          string
	}](t, file) {
		p := Place{Format: c.Place.Format, Table: c.Place.Table, ID: c.Place.ID, Attachment: c.Place.Attachment, File: ID(c.Place.FileID)}
		if len(c.Place.Parent) > 0 {
			p.Parent = ID(c.Place.Parent)
		}
		if ad, err := p.canonical(prefix); err != nil || !bytes.Equal(ad, c.AssociatedData) {
			t.Errorf("%s: canonical = %x, %v, want %x", c.Name, ad, err, c.AssociatedData)
		}
		k, err := UnwrapKey(dataKeyOf(t, c.DataKey), c.Wrapped, p)
		if c.Error != "" {
			wantError(t, c.Name, err, c.Error)
			continue
		}
		if raw, rerr := k.Raw(); err != nil || rerr != nil || !bytes.Equal(raw, c.Key) {
			t.Errorf("%s: UnwrapKey = %x, %v, %v, want %x", c.Name, raw, err, rerr, c.Key)
		}
	}
}

// dataKeyOf makes a data key of given bytes, which only a key service can do.
func dataKeyOf(t *testing.T, raw []byte) kmsencrypted.DataKey {
	t.Helper()
	provider := vectors.NativeProvider{Name: "one"}
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: provider, Format: kmsencrypted.Ruby}}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := provider.Encrypt(t.Context(), raw, kmsencrypted.BoundContext{})
	if err != nil {
		t.Fatal(err)
	}
	k, err := box.Unwrap(t.Context(), "v1:"+base64.StdEncoding.EncodeToString(ciphertext), kmsencrypted.Binding{Table: "users", Column: "encrypted_kms_key", ID: []string{"7"}})
	if err != nil {
		t.Fatal(err)
	}
	return k
}
