package vectors

import (
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// RailsFiles are the files of a Rails folder that the test suite knows.
var RailsFiles = []string{"manifest.json", "storage.json", "activerecord/modern.json", "activerecord/legacy.json"}

// RailsManifest lists what a Rails application wrote to rails.sqlite3.
type RailsManifest struct {
	WrittenBy           string `json:"written_by"`
	KeyID               string `json:"key_id"`
	LockboxMasterKey    string `json:"lockbox_master_key"`
	BlindIndexMasterKey string `json:"blind_index_master_key"`
	BlindIndexV2Key     string `json:"blind_index_master_key_v2"`
	Rows                []RailsRow
}

// RailsRow is one record with its plaintexts by attribute name.
type RailsRow struct {
	Model, Table string
	ContextModel string `json:"context_model"` // the class in the context, if it differs
	KeyVersion   *int   `json:"key_version"`
	ID           int64
	Values       map[string]RailsValue
	Find         map[string]RailsValue // by blind index: what must find the record
}

// RailsValue is a plaintext with its type: {"t": "date", "v": "1980-02-29"}.
type RailsValue struct {
	Type string `json:"t"`
	V    json.RawMessage
}

// RailsStorage lists what a Rails application attached to the documents of
// storage.sqlite3.
type RailsStorage struct {
	KeyID            string `json:"key_id"`
	LockboxMasterKey string `json:"lockbox_master_key"`
	Files            []RailsFile
}

// RailsFile is one attachment.
type RailsFile struct {
	RecordID int64 `json:"record_id"`
	Name     string
	Filename string
	BlobKey  string `json:"blob_key"`
	Size     int64  `json:"plain_size"`
	SHA256   string `json:"plain_sha256"`
}

// LoadRails decodes a manifest of the Rails folder into v, like [Load]. Of another folder
// than the project's own, tables, attributes, indexes and attachments that the project's
// have not, and values of an unknown type, are left out and counted: no test has a model
// of them.
func LoadRails(t testing.TB, file string, v any) {
	t.Helper()
	dir := folder("KMSENCRYPTED_RAILS", "rails")
	requireAny(t, dir, RailsFiles)
	load(t, filepath.Join(dir, file), v)
	unknown := 0
	switch m := v.(type) {
	case *RailsManifest:
		var own RailsManifest
		load(t, filepath.Join(Root(), "testdata", "rails", file), &own)
		unknown = m.keep(own)
	case *RailsStorage:
		var own RailsStorage
		load(t, filepath.Join(Root(), "testdata", "rails", file), &own)
		unknown = m.keep(own)
	}
	Skipped(t, file, unknown, "no test has a model of them")
}

// keep leaves out what another manifest has not, and returns how much.
func (m *RailsManifest) keep(own RailsManifest) (unknown int) {
	known := make(map[[2]string]bool) // tables, and with them their attributes and indexes
	for _, row := range own.Rows {
		known[[2]string{row.Table}] = true
		for name := range row.Values {
			known[[2]string{row.Table, name}] = true
		}
		for name := range row.Find {
			known[[2]string{row.Table, "find " + name}] = true
		}
	}
	rows := len(m.Rows)
	m.Rows = slices.DeleteFunc(m.Rows, func(row RailsRow) bool { return !known[[2]string{row.Table}] })
	unknown = rows - len(m.Rows)
	for _, row := range m.Rows {
		values := len(row.Values) + len(row.Find)
		maps.DeleteFunc(row.Values, func(name string, v RailsValue) bool {
			return !known[[2]string{row.Table, name}] || !slices.Contains(railsTypes, v.Type)
		})
		maps.DeleteFunc(row.Find, func(name string, _ RailsValue) bool { return !known[[2]string{row.Table, "find " + name}] })
		unknown += values - len(row.Values) - len(row.Find)
	}
	return unknown
}

// keep leaves out attachments that the tests have not. They also have photos.
func (s *RailsStorage) keep(own RailsStorage) (unknown int) {
	files := len(s.Files)
	s.Files = slices.DeleteFunc(s.Files, func(f RailsFile) bool {
		return f.Name != "photos" && !slices.ContainsFunc(own.Files, func(o RailsFile) bool { return o.Name == f.Name })
	})
	return files - len(s.Files)
}

// HasRails reports whether the Rails folder has a file.
func HasRails(file string) bool {
	_, err := os.Stat(filepath.Join(folder("KMSENCRYPTED_RAILS", "rails"), file))
	return err == nil
}

// RailsDatabase copies a database of the Rails folder, so that a test may write to
// it, and returns the path of the copy.
func RailsDatabase(t testing.TB, file string) string {
	t.Helper()
	from, err := os.Open(filepath.Join(folder("KMSENCRYPTED_RAILS", "rails"), file))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(t.TempDir(), filepath.Base(file))
	to, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// RailsObjects copies the objects of storage.json, so that a test may write to the
// folder, and returns the path of the copy.
func RailsObjects(t testing.TB) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "storage")
	if err := os.CopyFS(to, os.DirFS(filepath.Join(folder("KMSENCRYPTED_RAILS", "rails"), "storage"))); err != nil {
		t.Fatal(err)
	}
	return to
}
