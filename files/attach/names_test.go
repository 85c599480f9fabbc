package attach_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

func TestCleanName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"license.pdf":                   "license.pdf",
		"":                              "file",
		"..":                            "file",
		"/":                             "file",
		"../../etc/passwd":              "passwd",
		`C:\Users\ada\license.pdf`:      "license.pdf",
		`a/b\c.txt`:                     "c.txt",
		"a\x00b\r\nc\t.txt":             "abc.txt",
		`say "hi"; x='y'.txt`:           `say "hi"; x='y'.txt`,
		"invoice\u202Efdp.exe":          "invoicefdp.exe",
		"zero\u200Bwidth\u2028line.txt": "zerowidthline.txt",
		"  spaces and dots . ":          "spaces and dots",
		".htaccess":                     "htaccess",
		"Übung ü.txt":                   "Übung ü.txt",
		"bad\xffutf8.txt":               "bad\uFFFDutf8.txt",
		"a\u00A0b.txt":                  "a b.txt",
		"CON":                           "_CON",
		"nul.txt":                       "_nul.txt",
		"../aux .tar.gz":                "_aux .tar.gz",
		"com1":                          "_com1",
		"LPT\u00B3.log":                 "_LPT\u00B3.log",
		"conin$":                        "_conin$",
		"clock$":                        "_clock$",
		"a:b":                           "a-b",
		"nul:x":                         "nul-x",
		"C:license.pdf":                 "C-license.pdf",
		"nul:":                          "nul-",
		"com10.txt":                     "com10.txt",
		"console.txt":                   "console.txt",
	} {
		if got := attach.CleanName(name); got != want {
			t.Errorf("CleanName(%q) = %q, want %q", name, got, want)
		}
	}
	long := attach.CleanName(strings.Repeat("ü", 300) + ".jpeg")
	if len(long) > 255 || !strings.HasSuffix(long, "ü.jpeg") || !utf8.ValidString(long) {
		t.Errorf("CleanName of a long name = %q, %d bytes", long, len(long))
	}
}

func FuzzCleanName(f *testing.F) {
	f.Add("../a\x00b\"c")
	f.Fuzz(func(t *testing.T, name string) {
		got := attach.CleanName(name)
		if got == "" || len(got) > 255 || !utf8.ValidString(got) || strings.ContainsAny(got, "/\\:\x00\r\n") || attach.CleanName(got) != got {
			t.Errorf("CleanName(%q) = %q", name, got)
		}
	})
}

// The content type follows from the bytes of a file, not from the client's claim.
func TestContentType(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	c := w.insert(t, 1)
	png := append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 600)...)
	html := []byte("<html><script>alert(1)</script></html>")
	binary := []byte{1, 2, 3, 0xff}
	for _, f := range []struct {
		content        []byte
		declared, want string
	}{
		{png, "", "image/png"},
		{png, "text/html", "image/png"},
		{png, "image/jpeg", "image/png"},
		{html, "image/png", "text/html; charset=utf-8"},
		{html, "text/plain", "text/html; charset=utf-8"},
		{[]byte("plain"), "text/html", "text/plain; charset=utf-8"},
		{[]byte("plain"), "image/svg+xml", "text/plain; charset=utf-8"},
		{[]byte("plain"), "image/png", "text/plain; charset=utf-8"},
		{[]byte("a,b"), "text/csv", "text/csv"},
		{[]byte("a,b"), "text/csv; charset=windows-1252", "text/csv; charset=windows-1252"},
		{[]byte("a,b"), "text/csv; charset=utf-7", "application/octet-stream"},
		{[]byte("a,b"), "text/csv; charset=klingon", "application/octet-stream"},
		{binary, "foo", "application/octet-stream"},
		{binary, "foo/bar", "application/octet-stream"},
		{binary, "image/*", "application/octet-stream"},
		{binary, "image/heic", "image/heic"},
		{[]byte("{}"), "application/json", "application/json"},
		{[]byte("alert(1)"), "text/javascript", "text/plain; charset=utf-8"},
		{[]byte("alert(1)"), "text/jscript", "text/plain; charset=utf-8"},
		{[]byte("alert(1)"), "text/livescript", "text/plain; charset=utf-8"},
		{[]byte("alert(1)"), "text/x-ecmascript", "text/plain; charset=utf-8"},
		{[]byte("alert(1)"), "text/javascript1.5", "text/plain; charset=utf-8"},
		{[]byte("a{}"), "text/css", "text/plain; charset=utf-8"},
		{binary, "multipart/x-mixed-replace", "application/octet-stream"},
		{binary, "application/x-shockwave-flash", "application/octet-stream"},
		{binary, "image/heic; x=\"\xff\"", "application/octet-stream"},
		{binary, "application/pdf", "application/octet-stream"},
		{binary, "application/x-sqlite3", "application/x-sqlite3"},
		{binary, "text/html", "application/octet-stream"},
		{binary, "no type at all\r\nX: y", "application/octet-stream"},
		{[]byte("PK\x03\x04rest"), "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
		{[]byte("PK\x03\x04rest"), "image/png", "application/zip"},
		{nil, "", "text/plain; charset=utf-8"},
	} {
		p, err := w.manager.Upload(t.Context(), c, "scans", bytes.NewReader(f.content), attach.Options{ContentType: f.declared, Name: "../x\r\n.bin"})
		must(t, err)
		a, err := w.commit(t, p)
		must(t, err)
		if a.ContentType != f.want || p.ContentType() != f.want || a.FileName != "x.bin" {
			t.Errorf("%.10q declared as %q is %q named %q, want %q", f.content, f.declared, a.ContentType, a.FileName, f.want)
		}
	}
}
