package attach_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

func (w *railsWorld) pathOf(b *attach.Blob) string {
	return filepath.Join(w.path, b.Key[:2], b.Key[2:4], b.Key)
}

// owner reads the record of a blob.
func (w *railsWorld) owner(t testing.TB, b *attach.Blob) *document {
	t.Helper()
	id, err := strconv.ParseInt(b.RecordID, 10, 64)
	must(t, err)
	return w.read(t, id)
}

// find reads the blob again.
func (w *railsWorld) find(t testing.TB, b *attach.Blob) *attach.Blob {
	t.Helper()
	list, err := w.rails.List(t.Context(), w.owner(t, b), b.Name)
	must(t, err)
	for _, found := range list {
		if found.ID == b.ID {
			return found
		}
	}
	t.Fatalf("blob %d is gone", b.ID)
	return nil
}

// Two objects under one key that are exchanged in the store do not open, under the
// master key, under the record's data key and adopted, whatever the algorithm.
func TestRailsObjectsExchangedInTheStore(t *testing.T) {
	t.Parallel()
	w := newRailsWorld(t)
	long := strings.Repeat("a long file ", 300_000)
	pairs := map[string][2]*attach.Blob{
		"the master key, XSalsa20": {w.attach(t, w.read(t, 1), "scans", []byte("scan of one")), w.attach(t, w.read(t, 2), "scans", []byte("scan of two"))},
		"the data key":             {w.attach(t, w.read(t, 1), "photos", []byte("one"+long)), w.attach(t, w.read(t, 1), "photos", []byte("two"+long))},
	}
	check := func(how string) {
		t.Helper()
		for what, p := range pairs {
			for _, b := range p {
				if _, err := w.content(t, w.owner(t, b), w.find(t, b)); err != nil {
					t.Errorf("%s, %s: %v", what, how, err)
				}
			}
			exchange(t, w.pathOf(p[0]), w.pathOf(p[1]))
			for _, b := range p {
				if got, err := w.content(t, w.owner(t, b), w.find(t, b)); !errors.Is(err, kmsencrypted.ErrDecrypt) || len(got) > 0 {
					t.Errorf("%s, %s: Open = %d bytes, %v, want ErrDecrypt", what, how, len(got), err)
				}
			}
			exchange(t, w.pathOf(p[0]), w.pathOf(p[1]))
		}
	}
	check("as uploaded")
	w.rekey(t, 3)
	check("adopted")

	scan := pairs["the master key, XSalsa20"][0]
	for _, sum := range []sql.NullString{{}, {String: "AAAA", Valid: true}} {
		_, err := w.db.Exec("UPDATE active_storage_blobs SET checksum = ? WHERE id = ?", sum, scan.ID)
		must(t, err)
		if _, err := w.content(t, w.owner(t, scan), w.find(t, scan)); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("Open with checksum %v = %v, want ErrMalformed", sum, err)
		}
	}
}

func exchange(t testing.TB, a, b string) {
	t.Helper()
	for _, move := range [][2]string{{a, a + ".x"}, {b, a}, {a + ".x", b}} {
		must(t, os.Rename(move[0], move[1]))
	}
}
