package attach_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/rubyprocess"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// A Rails application with Active Storage and Lockbox opens what is attached here,
// and what it attaches to the same record is read back. The gems are older than
// those of the vectors, and know no associated data.
func TestRubyProcess(t *testing.T) {
	t.Parallel()
	database, objects := vectors.RailsDatabase(t, "storage.sqlite3"), vectors.RailsObjects(t)
	w := railsWorldAt(t, database, objects, nil)
	w.exec(t, "INSERT INTO documents (id, title, encrypted_kms_key) VALUES (100, 'new ü', NULL)")
	d := w.read(t, 100)
	must(t, w.documents.Adapter().AddKey(t.Context(), "encrypted_kms_key", d))
	w.exec(t, "UPDATE documents SET encrypted_kms_key = ? WHERE id = 100", d.Key)
	w.documents.Adapter().Saved(d)
	type shown struct {
		Name, Filename, Type, SHA256 string
		Size                         int
	}
	var want []shown
	for i, name := range []string{"license", "photo", "plain", "scans", "scans"} {
		content := random(uint64(i), []int{300_000, 70_001, 1000, 12, 2_000_000}[i])
		w.attach(t, d, name, content)
		sum := sha256.Sum256(content)
		want = append(want, shown{name, "a.bin", "application/octet-stream", hex.EncodeToString(sum[:]), len(content)})
	}

	gems := []string{"rails", "active_record/railtie", "active_storage/engine", "lockbox", "rbnacl", "sqlite3"}
	out := rubyprocess.Run(t, gems, nil, "testdata/storage.rb", database, objects, w.manifest.LockboxMasterKey, "100")
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if len(lines) != len(want) {
		t.Fatalf("Rails opened %d attachments of %d:\n%s", len(lines), len(want), out)
	}
	for i, line := range lines {
		var got shown
		must(t, json.Unmarshal(line, &got))
		if got != want[i] {
			t.Errorf("Rails opens %+v, want %+v", got, want[i])
		}
	}

	for _, name := range []string{"license", "photo", "plain"} {
		b, err := w.rails.Get(t.Context(), w.read(t, 100), name)
		must(t, err)
		content, err := w.content(t, w.read(t, 100), b)
		if err != nil || string(content) != strings.Repeat(name+" of Rails ", 5000) || b.FileName != name+" ü.txt" || b.ContentType != "text/plain" || b.Encrypted != (name != "plain") {
			t.Errorf("%s of Rails: %+v reads %d bytes, %v", name, b, len(content), err)
		}
	}
	scans, err := w.rails.List(t.Context(), w.read(t, 100), "scans")
	must(t, err)
	found := false
	for _, b := range scans {
		content, err := w.content(t, w.read(t, 100), b)
		must(t, err)
		found = found || string(content) == "scan of Rails"
	}
	if !found {
		t.Errorf("the scan of Rails is not among %d", len(scans))
	}
	w.all(t, "beside Rails")
}
