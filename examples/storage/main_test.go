package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
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
	"slices"
	"strings"
	"testing"
)

// site is a running application and a client of it.
type site struct {
	t   *testing.T
	dir string
	app *app
	url string
}

func start(t *testing.T, dir string) *site {
	t.Helper()
	a, err := open(t.Context(), dir, diskServices)
	must(t, err)
	server := httptest.NewServer(a.handler())
	t.Cleanup(func() {
		server.Close()
		must(t, a.Close())
	})
	return &site{t, dir, a, server.URL}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do makes a request, with headers in pairs.
func (s *site) do(method, path string, body []byte, headers ...string) (*http.Response, []byte) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, bytes.NewReader(body))
	must(s.t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	must(s.t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	must(s.t, err)
	return resp, answer
}

// upload sends the form of the page.
func (s *site) upload(tenant, name, contentType string, content []byte) {
	s.t.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name="file"; filename=%q`, name)}, "Content-Type": {contentType}})
	must(s.t, err)
	_, err = part.Write(content)
	must(s.t, err)
	must(s.t, w.Close())
	if resp, _ := s.do("POST", "/"+tenant+"/files", form.Bytes(), "Content-Type", w.FormDataContentType()); resp.StatusCode != http.StatusOK || resp.Request.URL.Path != "/"+tenant+"/" {
		s.t.Fatalf("upload of %s: %s", name, resp.Status)
	}
}

// seal does what upload.js does where the application encrypts the parts.
func (s *site) seal(tenant, name string, content []byte) (token string) {
	s.t.Helper()
	begin, err := json.Marshal(map[string]any{"name": name, "size": len(content)})
	must(s.t, err)
	resp, answer := s.do("POST", "/"+tenant+"/sealed", begin, "Content-Type", "application/json")
	var plan struct {
		Token           string
		Key             []byte
		Parts, PartSize int
	}
	must(s.t, json.Unmarshal(answer, &plan))
	if resp.StatusCode != http.StatusCreated || plan.Key != nil {
		s.t.Fatalf("begin: %s, a key: %t", resp.Status, plan.Key != nil)
	}
	for n := range plan.Parts {
		part := content[n*plan.PartSize : min((n+1)*plan.PartSize, len(content))]
		if resp, _ := s.do("PUT", fmt.Sprintf("/%s/sealed?part=%d", tenant, n+1), part, "Upload-Token", plan.Token); resp.StatusCode != http.StatusNoContent {
			s.t.Fatalf("part %d: %s", n+1, resp.Status)
		}
	}
	if resp, answer := s.do("POST", "/"+tenant+"/sealed?finish", nil, "Upload-Token", plan.Token); resp.StatusCode != http.StatusOK {
		s.t.Fatalf("finish: %s, %s", resp.Status, answer)
	}
	return plan.Token
}

// paths finds the addresses on the page of a tenant, by the attribute that has them.
func (s *site) paths(tenant, attribute string) (out []string) {
	s.t.Helper()
	_, page := s.do("GET", "/"+tenant+"/", nil)
	for _, m := range regexp.MustCompile(attribute+`="(/`+tenant+`/(?:files|sealed)/[^"]*)"`).FindAllSubmatch(page, -1) {
		if path := string(m[1]); !slices.Contains(out, path) {
			out = append(out, path)
		}
	}
	return out
}

// stored counts the objects of a service, and those in which a text is.
func (s *site) stored(service, text string) (objects, readable int) {
	s.t.Helper()
	err := filepath.WalkDir(filepath.Join(s.dir, service), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(d.Name(), "kms-store") || strings.HasSuffix(path, ".attrs") {
			return err
		}
		raw, err := os.ReadFile(path)
		objects++
		if bytes.Contains(raw, []byte(text)) {
			readable++
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return objects, readable
}

func diary() []byte {
	var b bytes.Buffer
	for i := range 400_000 {
		fmt.Fprintf(&b, "line %d of a very private diary\n", i)
	}
	return b.Bytes()
}

const line = "of a very private diary"

// Each tenant's files go to the service of the tenant, and any range of them comes back.
func TestTenants(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	text := diary()
	for _, tenant := range []string{"acme", "globex"} {
		s.upload(tenant, "../diary.txt", "text/plain", text)
		if s.seal(tenant, "sealed.txt", text); len(s.paths(tenant, "href")) != 2 {
			t.Fatalf("%s has %q", tenant, s.paths(tenant, "href"))
		}
		for _, path := range s.paths(tenant, "href") {
			resp, content := s.do("GET", path, nil)
			if !bytes.Equal(content, text) || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
				t.Errorf("%s: %s, %d bytes", path, resp.Status, len(content))
			}
			for _, is := range []struct {
				wanted     string
				start, end int
			}{{"bytes=9000000-9000099", 9_000_000, 9_000_100}, {"bytes=-10", len(text) - 10, len(text)}, {"bytes=0-0", 0, 1}} {
				if resp, content := s.do("GET", path, nil, "Range", is.wanted); resp.StatusCode != http.StatusPartialContent || !bytes.Equal(content, text[is.start:is.end]) {
					t.Errorf("%s of %s: %s, %d bytes", is.wanted, path, resp.Status, len(content))
				}
			}
			other := map[string]string{"acme": "/globex", "globex": "/acme"}[tenant] + strings.TrimPrefix(path, "/"+tenant)
			if resp, _ := s.do("GET", other, nil); resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s for another tenant: %s", path, resp.Status)
			}
			if resp, _ := s.do("POST", other+"/delete", nil); resp.StatusCode != http.StatusNotFound {
				t.Errorf("deletion of %s by another tenant: %s", path, resp.Status)
			}
		}
	}
	for service, want := range map[string][2]int{"plain": {1, 1}, "encrypted": {2, 0}, "sealed": {2, 0}} { // a sidecar is beside the object in encrypted
		if objects, readable := s.stored(service, line); [2]int{objects, readable} != want {
			t.Errorf("%s has %d objects, and %d can be read, want %v", service, objects, readable, want)
		}
	}
}

// A file stays where it is and can be read when its tenant gets another service.
func TestAnotherService(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	s.upload("acme", "first.txt", "text/plain", []byte(line))
	s.app.serviceOf["acme"] = "encrypted"
	s.upload("acme", "second.txt", "text/plain", []byte(line))
	_, page := s.do("GET", "/acme/", nil)
	if !bytes.Contains(page, []byte("· plain ·")) || !bytes.Contains(page, []byte("· encrypted ·")) {
		t.Error("the page does not name both services")
	}
	for _, path := range s.paths("acme", "href") {
		if _, content := s.do("GET", path, nil); string(content) != line {
			t.Errorf("%s is %q", path, content)
		}
	}
	if _, readable := s.stored("encrypted", line); readable != 0 {
		t.Error("the encrypted service has plaintext")
	}
}

// A sealed picture has a small one, which is sealed too and goes with it.
func TestPreview(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	picture := image.NewRGBA(image.Rect(0, 0, 1600, 900))
	for i := range picture.Pix {
		picture.Pix[i] = 255 // opaque and white
	}
	var large bytes.Buffer
	must(t, png.Encode(&large, picture))
	s.seal("globex", "white.png", large.Bytes())
	s.seal("globex", "no picture.png", []byte("\x89PNG\r\n\x1a\n and nothing more"))
	previews := s.paths("globex", "src")
	if len(previews) != 1 {
		t.Fatalf("previews: %q", previews)
	}
	resp, content := s.do("GET", previews[0], nil)
	small, _, err := image.DecodeConfig(bytes.NewReader(content))
	if err != nil || small.Width != 480 || small.Height != 270 {
		t.Errorf("the small picture: %s, %v, %v", resp.Status, small, err)
	}
	if objects, readable := s.stored("sealed", "PNG"); objects != 3 || readable != 0 {
		t.Errorf("%d objects, %d of them pictures", objects, readable)
	}
	original := strings.TrimSuffix(previews[0], "/small")
	if resp, _ := s.do("POST", original+"/delete", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("delete: %s", resp.Status)
	}
	for _, path := range []string{original, previews[0]} {
		if resp, _ := s.do("GET", path, nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s after it was deleted: %s", path, resp.Status)
		}
	}
	s.sweepAll()
	if objects, _ := s.stored("sealed", ""); objects != 1 {
		t.Errorf("%d objects, want that of the other file", objects)
	}
}

// sweepAll ends the grace of all objects.
func (s *site) sweepAll() {
	s.t.Helper()
	_, err := s.app.db.Exec("UPDATE kms_attachment_objects SET until = 0")
	must(s.t, err)
	_, err = s.app.sealed.Sweep(s.t.Context())
	must(s.t, err)
	_, err = s.app.files.Sweep(s.t.Context())
	must(s.t, err)
}

// Files and their keys are there when the application starts again.
func TestStartAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, dir)
	first.upload("globex", "a.txt", "text/plain", []byte(line))
	first.seal("globex", "b.txt", []byte(line))
	second := start(t, dir)
	paths := second.paths("globex", "href")
	for _, path := range paths {
		if _, content := second.do("GET", path, nil); string(content) != line {
			t.Errorf("%s is %q", path, content)
		}
	}
	if resp, _ := second.do("POST", paths[len(paths)-1]+"/delete", nil); resp.StatusCode != http.StatusOK || len(second.paths("globex", "href")) != 1 {
		t.Errorf("delete: %s", resp.Status)
	}
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	token := s.seal("acme", "a.txt", []byte(line))
	for _, is := range []struct {
		method, path string
		headers      []string
		want         int
	}{
		{"GET", "/umbrella/", nil, http.StatusNotFound},
		{"GET", "/acme/files/1", nil, http.StatusNotFound},
		{"GET", "/acme/sealed/none", nil, http.StatusNotFound},
		{"POST", "/globex/sealed?finish", []string{"Upload-Token", token}, http.StatusForbidden},
		{"POST", "/acme/files/1/delete", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"POST", "/acme/files", []string{"Content-Type", "text/plain"}, http.StatusBadRequest},
	} {
		if resp, _ := s.do(is.method, is.path, nil, is.headers...); resp.StatusCode != is.want {
			t.Errorf("%s %s: %s, want %d", is.method, is.path, resp.Status, is.want)
		}
	}
	broken := []byte("--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nbroken")
	if resp, _ := s.do("POST", "/acme/files", broken, "Content-Type", "multipart/form-data; boundary=x"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("an upload that broke off: %s", resp.Status)
	}
	if paths := s.paths("acme", "href"); len(paths) != 1 {
		t.Errorf("a broken upload is listed: %q", paths)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.url, nil)
	must(t, err)
	r.Host = "evil.example:8080"
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("under another name: %s", resp.Status)
	}
}

// The services of s3.yml open without a call to a store, and the page may connect to it.
func TestS3Services(t *testing.T) {
	for name, value := range map[string]string{"STORAGE_ENDPOINT": "http://127.0.0.1:9", "STORAGE_BUCKET": "files", "AWS_REGION": "us-east-1",
		"AWS_ACCESS_KEY_ID": "id0000", "AWS_SECRET_ACCESS_KEY": "secret00"} {
		t.Setenv(name, value)
	}
	text, err := os.ReadFile("s3.yml")
	must(t, err)
	a, err := open(t.Context(), t.TempDir(), text)
	must(t, err)
	defer a.Close()
	w := httptest.NewRecorder()
	a.handler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost:80/acme/", nil))
	if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "connect-src 'self' http://127.0.0.1:9;") || !strings.Contains(w.Body.String(), "This browser encrypts it") {
		t.Errorf("policy %q", policy)
	}
}

// The program serves until it is told to stop.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := run(ctx, []string{"-dir", t.TempDir(), "-addr", "127.0.0.1:0"}, in)
		in.CloseWithError(err)
		done <- err
	}()
	address, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	resp, err := http.Get(strings.TrimSpace(address))
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.Path != "/acme/" {
		t.Errorf("%s is %s", resp.Request.URL, resp.Status)
	}
	cancel()
	must(t, <-done)
	if code, err := run(t.Context(), []string{"-nonsense"}, io.Discard); code != 2 || err != nil {
		t.Errorf("a wrong flag: %d, %v", code, err)
	}
	if _, err := run(t.Context(), []string{"-services", filepath.Join(t.TempDir(), "none.yml")}, io.Discard); err == nil {
		t.Error("a configuration that is not there was accepted")
	}
}
