package direct

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/internal/signed"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

func TestNativeTokenVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(vectors.Root(), "testdata", "files", "tokens.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Cases []struct {
			Name, Token, Error, User, Tenant, Table string
			Secret                                  vectors.Hex
			IDs                                     []string
			Attachment, Bucket, Object              string
			FileName                                string `json:"file_name"`
			ContentType                             string `json:"content_type"`
			Expires, Size                           int64
			PartSize                                int64 `json:"part_size"`
		}
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	vectors.Ran(t, "tokens.json", len(all.Cases))
	for _, c := range all.Cases {
		keys, err := signed.New(tokenUse, c.Secret)
		if err != nil {
			t.Fatal(err)
		}
		said, ok := keys.Verify(c.Token, "")
		got, parsed := parseToken(said)
		if c.Error != "" {
			if ok && parsed {
				t.Errorf("%s: accepted as %+v", c.Name, got)
			}
			continue
		}
		want := token{expires: time.Unix(c.Expires, 0), user: c.User, tenant: c.Tenant, upload: attach.PartUpload{
			Table: c.Table, RecordID: c.IDs, Name: c.Attachment, Bucket: c.Bucket, Object: c.Object,
			Size: c.Size, PartSize: c.PartSize, FileName: c.FileName, ContentType: c.ContentType,
		}}
		if !ok || !parsed || !got.equal(want) {
			t.Errorf("%s: read as %+v, %t, %t, want %+v", c.Name, got, ok, parsed, want)
		}
		if again := keys.Sign("", want.append(nil)); again != c.Token {
			t.Errorf("%s: written as %s, want %s", c.Name, again, c.Token)
		}
	}
}

func (t token) equal(other token) bool {
	a, b := t.upload, other.upload
	same := slices.Equal(a.RecordID, b.RecordID)
	a.RecordID, b.RecordID = nil, nil
	return same && t.expires.Equal(other.expires) && t.user == other.user && t.tenant == other.tenant && jsonOf(a) == jsonOf(b)
}

func jsonOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// What parses is written back the same.
func FuzzToken(f *testing.F) {
	seed := token{expires: time.Unix(1_900_000_000, 0), user: "ada", tenant: "acme", upload: attach.PartUpload{
		Table: "customers", RecordID: []string{"7", "x"}, Name: "license", Bucket: "main", Object: "abcdef", Size: 5, PartSize: 8 << 20, FileName: "ä", ContentType: "text/plain"}}
	whole := seed.append(nil)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(bytes.Clone(whole), 0))
	f.Add(whole[:tokenFixed])
	f.Fuzz(func(t *testing.T, said []byte) {
		if got, ok := parseToken(said); ok && !bytes.Equal(got.append(nil), said) {
			t.Errorf("%x is written back as %x", said, got.append(nil))
		}
	})
}
