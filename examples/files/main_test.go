package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// site is a running application and a client of it.
type site struct {
	t   *testing.T
	dir string
	app *app
	url string
}

func start(t *testing.T, dir string, current int) *site {
	t.Helper()
	a, err := open(t.Context(), dir, current)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(a.handler())
	t.Cleanup(func() {
		server.Close()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return &site{t, dir, a, server.URL}
}

func (s *site) do(r *http.Request) (*http.Response, []byte) {
	s.t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, body
}

func (s *site) get(path string, headers ...string) (*http.Response, []byte) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return s.do(r)
}

func (s *site) post(path, contentType string, body io.Reader, headers ...string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "POST", s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, _ := s.do(r)
	return resp
}

func (s *site) upload(note, name, contentType string, content []byte) {
	s.t.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	if err := w.WriteField("note", note); err != nil {
		s.t.Fatal(err)
	}
	part, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {fmt.Sprintf(`form-data; name="file"; filename=%q`, name)}, "Content-Type": {contentType},
	})
	if err == nil {
		_, err = part.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if resp := s.post("/documents", w.FormDataContentType(), &form); resp.StatusCode != http.StatusOK || resp.Request.URL.Path != "/" {
		s.t.Fatalf("upload of %s: %s", name, resp.Status)
	}
}

// links finds the addresses on the page that begin so.
func (s *site) links(prefix string) []string {
	s.t.Helper()
	_, page := s.get("/")
	var out []string
	for _, m := range regexp.MustCompile(`(?:href|src|action)="(`+prefix+`[^"]*)"`).FindAllSubmatch(page, -1) {
		out = append(out, string(m[1]))
	}
	return out
}

// objects returns the files of the bucket and their content, but its mark.
func (s *site) objects() map[string]string {
	s.t.Helper()
	out := make(map[string]string)
	root := filepath.Join(s.dir, "objects")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == ".kms-store" {
			return err
		}
		raw, err := os.ReadFile(path)
		out[path] = string(raw)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func picture(t *testing.T) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 64, 64))
	for i := range 64 * 64 {
		img.Set(i%64, i/64, color.RGBA{R: 255, B: 255, A: 255})
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func longText() []byte {
	var b bytes.Buffer
	for i := range 200_000 {
		fmt.Fprintf(&b, "line %d of a very private diary\n", i)
	}
	return b.Bytes()
}

func TestApplication(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), 1)
	text := longText()
	s.upload("the cat <b>", "../my cat.png", "image/png", picture(t))
	s.upload("a private diary", "diary.txt", "text/plain", text)
	s.upload("an evil page", "page.html", "text/html", []byte("<html><script>alert(1)</script>"))

	resp, page := s.get("/")
	for _, want := range []string{"my cat.png", "the cat &lt;b&gt;", "a private diary", "<img src=\"/files/", "<iframe src=\"/files/"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if policy := resp.Header.Get("Content-Security-Policy"); policy != pagePolicy {
		t.Errorf("policy %q", policy)
	}
	var diary, cat string
	for _, link := range s.links("/downloads/") {
		resp, content := s.get(link)
		disposition := resp.Header.Get("Content-Disposition")
		if !strings.HasPrefix(disposition, "attachment;") || strings.Contains(disposition, "..") {
			t.Errorf("%s: %q", link, disposition)
		}
		file := "/files/" + strings.TrimPrefix(link, "/downloads/")
		switch {
		case bytes.Equal(content, text):
			diary = file
		case bytes.Equal(content, picture(t)):
			cat = file
		case strings.Contains(string(content), "alert") && resp.Header.Get("Content-Type") == "application/octet-stream":
		default:
			t.Errorf("%s: %d bytes of %s", link, len(content), resp.Header.Get("Content-Type"))
		}
	}
	if resp, content := s.get(diary, "Range", "bytes=3000000-3000099"); resp.StatusCode != http.StatusPartialContent || !bytes.Equal(content, text[3_000_000:3_000_100]) {
		t.Errorf("a range: %s, %q", resp.Status, content)
	}
	resp, _ = s.get(cat)
	if resp.Header.Get("Content-Type") != "image/png" || !strings.HasPrefix(resp.Header.Get("Content-Disposition"), "inline;") {
		t.Errorf("picture: %v", resp.Header)
	}
	if resp, _ := s.get(cat, "If-None-Match", resp.Header.Get("ETag")); resp.StatusCode != http.StatusNotModified {
		t.Errorf("the same picture again: %s", resp.Status)
	}
	shared := s.links("/shared/")
	if resp, _ := s.get(shared[0]); resp.StatusCode != http.StatusOK {
		t.Errorf("a link: %s", resp.Status)
	}
	if resp, _ := s.get(shared[0] + "x"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a changed link: %s", resp.Status)
	}

	// Nobody finds it on the disk.
	database, err := os.ReadFile(filepath.Join(s.dir, "app.sqlite3-wal"))
	if err != nil {
		t.Fatal(err)
	}
	for path, raw := range s.objects() {
		if strings.Contains(raw, "private diary") || strings.Contains(raw, "alert") {
			t.Errorf("%s is plaintext", path)
		}
	}
	if bytes.Contains(database, []byte("private diary")) || !bytes.Contains(database, []byte("documents")) {
		t.Error("the database has a note in the clear, or nothing")
	}

	s.rotateAll()
	if _, content := s.get(diary); !bytes.Equal(content, text) {
		t.Error("after the rotation the diary is another one")
	}
	if resp, page := s.get("/"); resp.StatusCode != http.StatusOK || !bytes.Contains(page, []byte("a private diary")) {
		t.Errorf("after the rotation: %s", resp.Status)
	}

	for _, action := range s.links("/documents/") {
		if resp := s.post(action, "text/plain", nil); resp.StatusCode != http.StatusOK && action != "/documents" {
			t.Errorf("%s: %s", action, resp.Status)
		}
	}
	if left := s.links("/files/"); len(left) != 0 {
		t.Errorf("left after deleting: %q", left)
	}
	if resp, _ := s.get(diary); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a deleted file: %s", resp.Status)
	}
	if _, err := s.app.db.Exec(`UPDATE kms_attachment_objects SET until = 0`); err != nil { // the grace is over
		t.Fatal(err)
	}
	if swept, err := s.app.files.Sweep(t.Context()); err != nil || swept.Deleted != 3 || len(s.objects()) != 0 {
		t.Errorf("sweep: %+v, %v, left are %d objects", swept, err, len(s.objects()))
	}
}

// rotateAll is what the operator does while the application runs.
func (s *site) rotateAll() {
	s.t.Helper()
	before := s.objects()
	later, err := open(s.t.Context(), s.dir, 2)
	if err != nil {
		s.t.Fatal(err)
	}
	defer later.Close()
	var out, progress bytes.Buffer
	for _, line := range []string{"rotate plan --to 2 --kind rekey", "rotate run --to 2 --kind rekey --writers-are-ours", "rotate verify"} {
		if code := later.operations(&out, &progress).Run(s.t.Context(), strings.Fields(line)); code != rotatecli.ExitDone {
			s.t.Fatalf("%s: exit code %d\n%s%s", line, code, out.String(), progress.String())
		}
	}
	for _, want := range []string{"rekey to v2", "3 rekeyed", "3 opened  clean"} {
		if !strings.Contains(out.String(), want) {
			s.t.Errorf("the command line did not say %q:\n%s", want, out.String())
		}
	}
	var old int
	if err := s.app.db.QueryRow(`SELECT count(*) FROM documents WHERE encrypted_kms_key NOT LIKE 'v2:%'`).Scan(&old); err != nil || old != 0 {
		s.t.Errorf("%d documents are at the old version, %v", old, err)
	}
	after := s.objects()
	for path, raw := range before {
		if after[path] != raw {
			s.t.Errorf("the rotation changed %s", path)
		}
	}
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), 1)
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example:8080"
	if resp, _ := s.do(r); resp.StatusCode != http.StatusForbidden {
		t.Errorf("under another name: %s", resp.Status)
	}
	if resp := s.post("/documents/x/delete", "text/plain", nil, "Sec-Fetch-Site", "cross-site"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a form of another site: %s", resp.Status)
	}
	if resp := s.post("/documents", "multipart/form-data; boundary=x", strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nbroken")); resp.StatusCode < 400 {
		t.Errorf("an upload that broke off: %s", resp.Status)
	}
	if links := s.links("/files/"); len(links) != 0 {
		t.Errorf("a broken upload is listed: %q", links)
	}
	if resp, _ := s.get("/files/none"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("no file: %s", resp.Status)
	}
}

// The program serves until it is told to stop.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := run(ctx, []string{"-dir", t.TempDir(), "-addr", "127.0.0.1:0"})
		done <- err
	}()
	time.Sleep(100 * time.Millisecond)
	cancel()
	if err := <-done; err != nil && ctx.Err() == nil {
		t.Error(err)
	}
	if code, err := run(t.Context(), []string{"-nonsense"}); code != 2 || err != nil {
		t.Errorf("a wrong flag: %d, %v", code, err)
	}
	if _, err := run(t.Context(), []string{"-dir", t.TempDir(), "-current", "3"}); err == nil {
		t.Error("version 3 was accepted")
	}
}
