package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A browser shows the pictures and texts of examples/files, and not what a page
// that was uploaded would do.
func TestFilesInChromium(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	url := startFilesExample(t)
	magenta := color.RGBA{R: 255, B: 255, A: 255}
	uploadDocument(t, url, "cat.png", "image/png", solid(t, magenta))
	uploadDocument(t, url, "notes.txt", "text/plain", []byte(strings.Repeat("to be read in the browser\n", 2000)))
	uploadDocument(t, url, "evil.html", "text/html", []byte(`<html><body bgcolor="lime"><script>document.title="taken"</script>`))

	shot := browser.screenshot(t, url)
	if n := count(shot, magenta); n < 5000 {
		t.Errorf("%d pixels of the picture are to be seen", n)
	}
	dom := browser.dom(t, url)
	for _, want := range []string{"cat.png", "notes.txt", "evil.html", "<iframe src=\"/files/", "<img src=\"/files/"} {
		if !strings.Contains(dom, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, address := range addresses(dom, "/files/") {
		one := browser.screenshot(t, url+address)
		if n := count(one, color.RGBA{G: 255, A: 255}); n > 0 {
			t.Errorf("%s runs as a page", address)
		}
		text := browser.dom(t, url+address)
		if strings.Contains(text, "taken") || strings.Contains(text, "<script") {
			t.Errorf("%s is a page: %.200s", address, text)
		}
	}
}

// browser is a headless Chromium with a profile of its own.
type browserCommand struct{ path, profile string }

func chromium(t *testing.T) browserCommand {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return browserCommand{path, t.TempDir()}
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("no chromium")
	}
	t.Skip("chromium is not installed")
	return browserCommand{}
}

func (b browserCommand) run(t *testing.T, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.path, append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
		"--hide-scrollbars", "--window-size=1200,900", "--virtual-time-budget=5000", "--user-data-dir=" + b.profile,
	}, args...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, log.Bytes())
	}
	return out
}

func (b browserCommand) dom(t *testing.T, url string) string {
	t.Helper()
	return string(b.run(t, "--dump-dom", url))
}

func (b browserCommand) screenshot(t *testing.T, url string) image.Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "page.png")
	b.run(t, "--screenshot="+path, url)
	if keep := os.Getenv("KMSENCRYPTED_SCREENSHOTS"); keep != "" {
		if raw, err := os.ReadFile(path); err == nil {
			os.WriteFile(filepath.Join(keep, fmt.Sprintf("page-%d.png", time.Now().UnixNano())), raw, 0o600)
		}
	}
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return image.NewRGBA(image.Rect(0, 0, 1, 1)) // a download has no page
	} else if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	img, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// report shows a page, beside which handler answers, until its script has sent what
// it found to /test/result. It puts that into result, and returns its text.
func (b browserCommand) report(t *testing.T, page string, handler http.Handler, result any) (raw []byte) {
	t.Helper()
	results := make(chan []byte, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /test/page", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, page)
	})
	mux.HandleFunc("POST /test/result", func(w http.ResponseWriter, r *http.Request) {
		if raw, err := io.ReadAll(r.Body); err == nil {
			results <- raw
		}
	})
	mux.Handle("/", handler)
	server := httptest.NewServer(mux)
	defer server.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, b.path, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server", "--disable-audio-output",
		"--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0", "--user-data-dir="+b.profile, server.URL+"/test/page")
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case raw = <-results:
	case <-ctx.Done():
	}
	cancel()
	cmd.Wait()
	if raw == nil {
		t.Fatalf("the page reported nothing\n%s", log.Bytes())
	}
	var failed struct{ Error string }
	if err := errors.Join(json.Unmarshal(raw, &failed), json.Unmarshal(raw, result)); err != nil || failed.Error != "" {
		t.Fatalf("the page reports %s", raw)
	}
	return raw
}

// startFilesExample runs examples/files, and returns its address.
func startFilesExample(t *testing.T) string {
	t.Helper()
	return startExample(t, "files", nil, "-dir", t.TempDir())
}

// startExample builds a program of examples, runs it, and returns the address that it prints.
func startExample(t *testing.T, name string, env []string, args ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./examples/"+name)
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program, append(args, "-addr", "127.0.0.1:0")...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(strings.TrimSpace(line), "/")
}

func uploadDocument(t *testing.T, url, name, contentType string, content []byte) {
	t.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
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
		t.Fatal(err)
	}
	resp, err := http.Post(url+"/documents", w.FormDataContentType(), &form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("upload of %s: %s", name, resp.Status)
	}
}

func solid(t *testing.T, c color.Color) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 200, 200))
	for i := range 200 * 200 {
		img.Set(i%200, i/200, c)
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// count is how many pixels have a colour.
func count(img image.Image, c color.RGBA) (n int) {
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			if r, g, bl, _ := img.At(x, y).RGBA(); uint8(r>>8) == c.R && uint8(g>>8) == c.G && uint8(bl>>8) == c.B {
				n++
			}
		}
	}
	return n
}

// addresses finds what a page loads from under a path.
func addresses(dom, path string) (found []string) {
	for _, part := range strings.Split(dom, `src="`)[1:] {
		if address, _, ok := strings.Cut(part, `"`); ok && strings.HasPrefix(address, path) {
			found = append(found, address)
		}
	}
	return found
}
