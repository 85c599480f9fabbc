package s3ec

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// vector is an object that a client of AWS wrote, or one made from it by a change.
type vector struct {
	Name        string
	BodyFile    string `json:"body_file"`
	BodySHA256  string `json:"body_sha256"`
	Metadata    map[string]string
	Instruction *string
	Plaintext   struct {
		Seed   string
		Size   int
		SHA256 string
	}
	Expect string
	Format string
	Wrap   string
	Why    string
	Key    struct {
		Type, Hex, PEM string
		DataKey        recordedKey `json:"data_key"`
	}
	Context map[string]string
	Legacy  bool
}

// recordedKey is a data key as the key service returned it. As a provider it opens what
// the service would open: these bytes under this context.
type recordedKey struct {
	Context               map[string]string
	Ciphertext, Plaintext []byte
}

func (k recordedKey) Info() kmsencrypted.KeyInfo { return kmsencrypted.KeyInfo{Provider: "recorded"} }

func (k recordedKey) Encrypt(context.Context, []byte, kmsencrypted.BoundContext) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

func (k recordedKey) Decrypt(_ context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	bound, err := ec.Map()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(ciphertext, k.Ciphertext) || !maps.Equal(bound, k.Context) {
		return nil, kmsencrypted.ErrDecrypt
	}
	return bytes.Clone(k.Plaintext), nil
}

func (v *vector) key(t *testing.T) Key {
	t.Helper()
	var key Key
	var err error
	switch v.Key.Type {
	case "aes":
		var raw []byte
		if raw, err = hex.DecodeString(v.Key.Hex); err == nil {
			key, err = AES(raw, nil)
		}
	case "rsa":
		key, err = ParseRSA([]byte(v.Key.PEM), nil)
	default:
		key = KMS(v.Key.DataKey)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// plaintext makes the bytes that the vector's rule names.
func (v *vector) plaintext() []byte {
	var out []byte
	for i := 0; len(out) < v.Plaintext.Size; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", v.Plaintext.Seed, v.Name, i))
		out = append(out, sum[:]...)
	}
	return out[:v.Plaintext.Size]
}

// client returns a client of a bucket that holds the object.
func (v *vector) client(t *testing.T, dir string, o Options) (*Client, *memory) {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(dir, v.BodyFile))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != v.BodySHA256 {
		t.Fatalf("%s is not the body of the vector", v.BodyFile)
	}
	m := newMemory()
	m.objects[v.Name] = stored{data: body, upload: Upload{Metadata: v.Metadata}, version: Version{ETag: `"1"`}}
	if v.Instruction != nil {
		m.objects[v.Name+defaultSuffix] = stored{data: []byte(*v.Instruction)}
	}
	o.Keys, o.LegacyRead = []Key{v.key(t)}, v.Legacy
	c, err := New(m, o)
	if err != nil {
		t.Fatal(err)
	}
	return c, m
}

// What AWS's clients wrote opens, as a whole, in parts, and compared with its row.
func TestS3ECVectors(t *testing.T) {
	for _, file := range []string{"ruby.json", "go.json", "v3-built.json"} {
		t.Run(file, func(t *testing.T) {
			var all []vector
			dir := vectors.LoadS3EC(t, file, &all)
			for _, v := range all {
				v.opens(t, dir)
			}
			vectors.Ran(t, file, len(all))
		})
	}
}

func (v *vector) opens(t *testing.T, dir string) {
	t.Helper()
	want := v.plaintext()
	if sum := sha256.Sum256(want); hex.EncodeToString(sum[:]) != v.Plaintext.SHA256 {
		t.Fatalf("%s: another plaintext than the vector's", v.Name)
	}
	var legacy []string
	c, _ := v.client(t, dir, Options{OnLegacyRead: func(_ context.Context, key string) { legacy = append(legacy, key) }})
	sum := md5.Sum(want)
	r, err := c.Open(t.Context(), v.Name, OpenOptions{Context: v.Context, Expected: &Content{int64(len(want)), sum[:]}})
	if err != nil {
		t.Errorf("%s: Open = %v", v.Name, err)
		return
	}
	defer r.Close()
	var whole bytes.Buffer
	if n, err := r.WriteTo(&whole); err != nil || n != int64(len(want)) || !bytes.Equal(whole.Bytes(), want) {
		t.Errorf("%s: WriteTo = %d, %v", v.Name, n, err)
	}
	if got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: read %d bytes, %v", v.Name, len(got), err)
	}
	for _, part := range [][2]int{{0, 1}, {len(want) / 2, len(want)}, {max(len(want)-1, 0), len(want)}} {
		from, to := part[0], min(part[1], len(want))
		got := make([]byte, to-from)
		if _, err := r.ReadAt(got, int64(from)); err != nil || !bytes.Equal(got, want[from:to]) {
			t.Errorf("%s: ReadAt(%d to %d) = %v", v.Name, from, to, err)
		}
	}
	if isV1 := v.Format == "v1"; isV1 != (len(legacy) == 1) || r.Info().Wrap != v.Wrap || fmt.Sprint("v", int(r.Info().Format)) != v.Format {
		t.Errorf("%s: Info = %+v with %d legacy reads, want %s and %s", v.Name, r.Info(), len(legacy), v.Format, v.Wrap)
	}
	for name, other := range map[string]Content{
		"another size": {Size: int64(len(want)) + 1, MD5: sum[:]},
		"another MD5":  {Size: int64(len(want)), MD5: make([]byte, md5.Size)},
	} {
		if r, err := c.Open(t.Context(), v.Name, OpenOptions{Context: v.Context, Expected: &other}); r != nil || !errors.Is(err, kmsencrypted.ErrDecrypt) {
			t.Errorf("%s: Open with %s = %v, want ErrDecrypt", v.Name, name, err)
		}
	}
}

// What was changed does not open, and the error has a type.
func TestS3ECNegativeVectors(t *testing.T) {
	var all []vector
	dir := vectors.LoadS3EC(t, "negative.json", &all)
	types := []error{kmsencrypted.ErrDecrypt, kmsencrypted.ErrBinding, kmsencrypted.ErrMalformed, kmsencrypted.ErrNotCiphertext, kmsencrypted.ErrKeyUnusable, ErrLegacy}
	counts := make(map[error]int)
	for _, v := range all {
		c, _ := v.client(t, dir, Options{})
		r, err := c.Open(t.Context(), v.Name, OpenOptions{Context: v.Context})
		if err == nil {
			r.Close()
			t.Errorf("%s (%s): opened", v.Name, v.Why)
			continue
		}
		known := false
		for _, is := range types {
			if errors.Is(err, is) {
				counts[is]++
				known = true
			}
		}
		if !known {
			t.Errorf("%s (%s): %v has no type", v.Name, v.Why, err)
		}
	}
	for is, n := range counts {
		t.Logf("%d times %v", n, is)
	}
	vectors.Ran(t, "negative.json", len(all))
}
