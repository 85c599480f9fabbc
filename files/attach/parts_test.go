package attach_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// inParts is a world whose parts have one chunk.
func inParts(t *testing.T, d database) (*world, *customer) {
	t.Helper()
	w := newWorld(t, d, func(c *attach.Config) { c.PartSize, c.Grace = files.ChunkSize, time.Millisecond })
	return w, w.insert(t, 1)
}

func (w *world) begin(t *testing.T, c *customer, content []byte) *attach.PartUpload {
	t.Helper()
	u, key, err := w.manager.BeginParts(t.Context(), c, "scans", attach.Options{Name: "../scan.txt", ContentType: "text/x-scan", Size: int64(len(content))})
	must(t, err)
	key.Wipe()
	return u
}

// A file of any size on each kind of database, with some parts twice.
func TestPartsPostgresMariaDBMySQLSQLite(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		w, c := inParts(t, d)
		for i, size := range []int{0, 1, files.ChunkSize - 1, files.ChunkSize, files.ChunkSize + 1, 3 * files.ChunkSize, 100_000} {
			content := random(uint64(i), size)
			u := w.begin(t, c, content)
			if u.Parts() != size/files.ChunkSize+1 || u.FileName != "scan.txt" {
				t.Errorf("the upload of %d bytes is %+v", size, u)
			}
			for n := u.Parts(); n > 0; n-- {
				for range 1 + n%2 {
					must(t, w.manager.SealPart(t.Context(), c, u, n, partOf(u, n, content)))
				}
				if missing, err := w.manager.MissingParts(t.Context(), u); err != nil || len(missing) != n-1 {
					t.Errorf("MissingParts() = %v, %v, want %d", missing, err, n-1)
				}
			}
			p, err := w.manager.FinishParts(t.Context(), c, u, nil)
			must(t, err)
			a, err := w.commit(t, p)
			must(t, err)
			w.holds(t, a, content)
			whole, err := w.manager.Upload(t.Context(), c, "scans", bytes.NewReader(content), attach.Options{Name: "../scan.txt", ContentType: "text/x-scan"})
			must(t, err)
			if a.FileName != "scan.txt" || a.Size != int64(size) || a.ContentType != whole.ContentType() {
				t.Errorf("attached as %+v, and by Upload as %s", a, whole.ContentType())
			}
			must(t, whole.Discard(t.Context()))
			w.rotate(t, rotation.Rekey, 2)
			c = w.read(t, 1)
			w.holds(t, a, content)
		}
		if left := w.count(t, "SELECT count(*) FROM kms_attachment_objects") + w.count(t, "SELECT count(*) FROM kms_attachment_parts"); left > 0 {
			t.Errorf("%d rows are left of uploads that were attached", left)
		}
	})
}

// After a backup of the database was restored the store knows parts that the database does
// not. The same content of such a part is accepted, and another one is refused.
func TestPartsAfterRollback(t *testing.T) {
	t.Parallel()
	for name, bucket := range map[string]attach.Bucket{"memory": new(attach.Memory), "folder": openDir(t, t.TempDir())} {
		w := newWorld(t, sqlite, func(c *attach.Config) {
			c.PartSize, c.Buckets = files.ChunkSize, map[string]attach.Bucket{"main": bucket}
		})
		c := w.insert(t, 1)
		content := random(1, 40_000)
		u := w.begin(t, c, content)
		for n := range u.Parts() {
			must(t, w.manager.SealPart(t.Context(), c, u, n+1, partOf(u, n+1, content)))
		}
		w.exec(t, "DELETE FROM kms_attachment_parts WHERE part > 1")
		if missing, err := w.manager.MissingParts(t.Context(), u); err != nil || len(missing) != 2 {
			t.Errorf("%s: missing %v, %v, want the parts 2 and 3", name, missing, err)
		}
		if err := w.manager.SealPart(t.Context(), c, u, 2, random(2, files.ChunkSize)); !errors.Is(err, attach.ErrPartChanged) {
			t.Errorf("%s: another content of a part = %v, want ErrPartChanged", name, err)
		}
		for _, n := range []int{2, 3} {
			must(t, w.manager.SealPart(t.Context(), c, u, n, partOf(u, n, content)))
		}
		p, err := w.manager.FinishParts(t.Context(), c, u, nil)
		must(t, err)
		a, err := w.commit(t, p)
		must(t, err)
		w.holds(t, a, content)
	}
}

// What SealPart, FinishParts and BeginParts refuse.
func TestPartsRefused(t *testing.T) {
	t.Parallel()
	w, c := inParts(t, sqlite)
	other := w.insert(t, 2)
	content := random(1, 40_000)
	u := w.begin(t, c, content)
	seal := func(n int, part []byte) error { return w.manager.SealPart(t.Context(), c, u, n, part) }
	finish := func() error { _, err := w.manager.FinishParts(t.Context(), c, u, nil); return err }
	must(t, seal(1, partOf(u, 1, content)))
	must(t, seal(2, partOf(u, 2, content)))
	changed := *u
	changed.Object = "0123456789abcdefghijklmnopqr"
	resized := *u
	resized.PartSize = 5
	for what, is := range map[string]struct{ err, want error }{
		"a part with other bytes":      {seal(1, random(9, files.ChunkSize)), attach.ErrPartChanged},
		"a short part":                 {seal(3, content[:5]), attach.ErrSize},
		"part 0":                       {seal(0, nil), kmsencrypted.ErrConfig},
		"part 4 of 3":                  {seal(4, nil), kmsencrypted.ErrConfig},
		"a part size of 5":             {w.manager.SealPart(t.Context(), c, &resized, 3, nil), kmsencrypted.ErrConfig},
		"too early":                    {finish(), attach.ErrPartMissing},
		"another record":               {w.manager.SealPart(t.Context(), other, u, 3, partOf(u, 3, content)), kmsencrypted.ErrConfig},
		"an object that is not listed": {w.manager.SealPart(t.Context(), c, &changed, 3, partOf(u, 3, content)), attach.ErrAbandoned},
	} {
		if !errors.Is(is.err, is.want) {
			t.Errorf("%s: %v, want %v", what, is.err, is.want)
		}
	}
	for what, begin := range map[string]struct {
		row  *customer
		name string
		o    attach.Options
		want error
	}{
		"an unknown attachment": {c, "other", attach.Options{}, kmsencrypted.ErrConfig},
		"no record":             {nil, "scans", attach.Options{}, kmsencrypted.ErrConfig},
		"a new record":          {&customer{}, "scans", attach.Options{}, kmsencrypted.ErrNoID},
		"a negative size":       {c, "scans", attach.Options{Size: -1}, kmsencrypted.ErrConfig},
		"too large":             {c, "scans", attach.Options{Size: attach.MaxPartsSize + 1}, kmsencrypted.ErrTooLarge},
		"an unknown bucket":     {c, "scans", attach.Options{Bucket: "nowhere"}, kmsencrypted.ErrConfig},
	} {
		if _, _, err := w.manager.BeginParts(t.Context(), begin.row, begin.name, begin.o); !errors.Is(err, begin.want) {
			t.Errorf("begin with %s: %v, want %v", what, err, begin.want)
		}
	}
	// The key of an upload is bound to its object and its record.
	second := w.begin(t, c, content)
	w.exec(t, "UPDATE kms_attachment_objects SET sealed_key = (SELECT sealed_key FROM kms_attachment_objects WHERE object = ?) WHERE object = ?", u.Object, second.Object)
	if err := w.manager.SealPart(t.Context(), c, second, 1, partOf(u, 1, content)); !errors.Is(err, kmsencrypted.ErrDecrypt) {
		t.Errorf("under the key of another upload: %v, want ErrDecrypt", err)
	}
	// This process may not decrypt.
	w.keys.Set(kmstest.Revoke(1).On(kmsencrypted.OpUnwrap))
	third := w.begin(t, c, content)
	if err := w.manager.SealPart(t.Context(), c, third, 1, partOf(u, 1, content)); !errors.Is(err, kmsencrypted.ErrDenied) {
		t.Errorf("without permission to decrypt: %v, want ErrDenied", err)
	}
}

// The key of an upload that was given up goes when its parts go.
func TestPartsGivenUp(t *testing.T) {
	t.Parallel()
	w, c := inParts(t, sqlite)
	u := w.begin(t, c, random(1, 40_000))
	must(t, w.manager.SealPart(t.Context(), c, u, 1, random(1, files.ChunkSize)))
	must(t, w.manager.DiscardParts(t.Context(), u))
	w.exec(t, "UPDATE kms_attachment_objects SET until = 0")
	_, err := w.manager.Sweep(t.Context())
	must(t, err)
	if left := w.count(t, "SELECT count(*) FROM kms_attachment_objects WHERE sealed_key IS NOT NULL") + w.count(t, "SELECT count(*) FROM kms_attachment_parts"); left > 0 {
		t.Errorf("%d keys and parts are left of an upload that was given up", left)
	}
}

// A bucket whose parts come from clients, which send what they like: as S3 without the
// signed digests.
type trusting struct{ *attach.Memory }

func (trusting) SignPart(context.Context, string, string, attach.Part, time.Duration) (string, http.Header, error) {
	return "https://store.example.org", http.Header{}, nil
}

func (b trusting) ListParts(ctx context.Context, name, upload string) ([]attach.Part, error) {
	list, err := b.Memory.ListParts(ctx, name, upload)
	for i := range list {
		list[i].SHA256 = [32]byte{}
	}
	return list, err
}

func (b trusting) CompleteParts(ctx context.Context, name, upload string, parts []attach.Part) error {
	whole, err := b.Memory.ListParts(ctx, name, upload)
	if err != nil {
		return err
	}
	return b.Memory.CompleteParts(ctx, name, upload, whole)
}

// A client that seals wrongly spoils its own upload and attaches nothing.
func TestPartsSealedWrongly(t *testing.T) {
	t.Parallel()
	store := trusting{new(attach.Memory)}
	w := newWorld(t, sqlite, func(c *attach.Config) {
		c.PartSize, c.Grace, c.Buckets = files.ChunkSize, time.Millisecond, map[string]attach.Bucket{"main": store}
	})
	c := w.insert(t, 1)
	content := random(3, 20_000)
	for what, spoil := range map[string]func(prefix []byte, parts [][]byte){
		"another file id": func(prefix []byte, _ [][]byte) { prefix[20] ^= 1 },
		"another commit":  func(prefix []byte, _ [][]byte) { prefix[80] ^= 1 },
		"the last chunk":  func(_ []byte, parts [][]byte) { parts[1][0] ^= 1 },
		"the first chunk": func(_ []byte, parts [][]byte) { parts[0][500] ^= 1 },
		"nothing":         func([]byte, [][]byte) {},
	} {
		u, key, err := w.manager.BeginParts(t.Context(), c, "scans", attach.Options{Size: int64(len(content))})
		must(t, err)
		prefix, parts := sealAs(t, key, content)
		spoil(prefix, parts)
		parts[0] = append(prefix, parts[0]...)
		for i, part := range parts {
			sum := [32]byte{byte(i + 1)} // which nobody compares
			_, _, err := w.manager.SignPart(t.Context(), u, i+1, sum)
			must(t, err)
			must(t, store.PutPart(t.Context(), u.Object, "", attach.Part{Number: i + 1}, part))
		}
		p, err := w.manager.FinishParts(t.Context(), c, u, nil)
		if what == "nothing" {
			must(t, err)
			a, err := w.commit(t, p)
			must(t, err)
			w.holds(t, a, content)
			continue
		}
		if !errors.Is(err, kmsencrypted.ErrDecrypt) {
			t.Errorf("%s: %v, want ErrDecrypt", what, err)
		}
		if _, err := w.manager.FinishParts(t.Context(), c, u, nil); !errors.Is(err, attach.ErrAbandoned) {
			t.Errorf("%s, again: %v, want ErrAbandoned", what, err)
		}
	}
	if len(store.Names()) != 1 {
		t.Errorf("the store has %v, want the one good object", store.Names())
	}
}

// sealAs seals a file with an object key, as parts of one chunk.
func sealAs(t *testing.T, key files.ObjectKey, content []byte) (prefix []byte, parts [][]byte) {
	t.Helper()
	prefix, raw, nonce := key.Raw()
	aead := gcm(t, raw)
	for k := 0; ; k++ {
		n := min(files.ChunkSize, len(content))
		iv := bytes.Clone(nonce)
		iv[11] ^= byte(k)
		parts = append(parts, aead.Seal(nil, iv, content[:n], nil))
		if content = content[n:]; n < files.ChunkSize {
			return prefix, parts
		}
	}
}

func gcm(t *testing.T, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	must(t, err)
	aead, err := cipher.NewGCM(block)
	must(t, err)
	return aead
}
