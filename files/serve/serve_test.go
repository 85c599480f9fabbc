package serve

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

func TestAuthorisationComesFirst(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		authorize, open error
		want            int
	}{
		{ErrUnauthorized, nil, 401},
		{fmt.Errorf("user 7: %w", ErrForbidden), nil, 403},
		{fs.ErrPermission, nil, 403},
		{fs.ErrNotExist, nil, 404},
		{ErrExpired, nil, 410},
		{ErrLink, nil, 404},
		{errors.New("database gone"), nil, 500},
		{nil, fs.ErrNotExist, 404},
		{nil, kmsencrypted.ErrUnavailable, 503},
		{nil, &kmsencrypted.Error{Op: "unwrap", Err: kmsencrypted.ErrThrottled}, 503},
		{nil, kmsencrypted.ErrDenied, 500},
		{nil, kmsencrypted.ErrDecrypt, 500},
		{nil, nil, 200},
	} {
		var log bytes.Buffer
		f := newMemory([]byte("content"))
		opened := false
		h := Handler(func(*http.Request) (int, error) { return 7, c.authorize }, func(_ context.Context, id int) (*memory, error) {
			opened = true
			if id != 7 {
				t.Errorf("opened %d", id)
			}
			return f, c.open
		}, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/x", nil))
		if w.Code != c.want || opened != (c.authorize == nil) || f.closed != (c.want == 200) {
			t.Errorf("authorize %v, open %v: %d, opened %v, closed %v, want %d", c.authorize, c.open, w.Code, opened, f.closed, c.want)
		}
		if c.want != 200 && (strings.TrimSpace(w.Body.String()) != http.StatusText(c.want) || w.Header().Get("Cache-Control") != "no-store") {
			t.Errorf("authorize %v, open %v: body %q, headers %v", c.authorize, c.open, w.Body, w.Header())
		}
		if (log.Len() > 0) != (c.want >= 500) {
			t.Errorf("authorize %v, open %v: logged %q", c.authorize, c.open, log.String())
		}
	}
	// A client that goes away while its permission is looked up is no failure.
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	h := Handler(func(r *http.Request) (int, error) { cancel(); return 0, fmt.Errorf("query: %w", r.Context().Err()) },
		func(context.Context, int) (*memory, error) { return nil, nil }, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/x", nil))
	if w.Code != http.StatusServiceUnavailable || log.Len() > 0 {
		t.Errorf("a client that went away: %d, logged %q", w.Code, log.String())
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		w := httptest.NewRecorder()
		h := Handler(func(*http.Request) (int, error) { t.Error("authorized " + method); return 0, nil }, func(context.Context, int) (*memory, error) { return nil, nil }, Options{})
		h.ServeHTTP(w, httptest.NewRequest(method, "/x", nil))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
	}
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	for declared, want := range map[string]string{
		"image/png": "inline image/png", "IMAGE/JPEG": "inline image/jpeg", "video/mp4": "inline video/mp4", "audio/ogg": "inline audio/ogg",
		"text/plain": "inline text/plain; charset=utf-8", "text/plain; charset=iso-8859-1": "inline text/plain; charset=iso-8859-1",
		"application/pdf": "inline application/pdf", "application/zip": "attachment application/zip",
		"application/vnd.openxmlformats-officedocument.wordprocessingml.document": "attachment application/vnd.openxmlformats-officedocument.wordprocessingml.document",
		// What could run in the site's name.
		"text/html": "", "text/html; charset=utf-8": "", "TEXT/HTML": "", "application/xhtml+xml": "", "image/svg+xml": "", "text/xml": "",
		"application/xml": "", "application/javascript": "", "text/javascript": "", "application/ecmascript": "", "text/css": "",
		"application/x-shockwave-flash": "", "text/cache-manifest": "", "multipart/related": "", "application/rss+xml": "", "message/rfc822+xml": "", "image/svg": "",
		// What is none.
		"": "", "nonsense": "", "text/html\r\nX-Evil: 1": "", "image/png\x00": "", "image/png; a=\"": "", "/": "", "image/": "", "a/b/c": "",
	} {
		if want == "" {
			want = "attachment application/octet-stream"
		}
		f := newMemory([]byte("<script>alert(1)</script>"))
		f.contentType = declared
		w := get(f, Options{})
		disposition, _, _ := strings.Cut(w.Header().Get("Content-Disposition"), ";")
		if got := disposition + " " + w.Header().Get("Content-Type"); got != want {
			t.Errorf("%q is served as %q, want %q", declared, got, want)
		}
		h := w.Header()
		if h.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("X-Evil") != "" {
			t.Errorf("%q: headers %v", declared, h)
		}
		if sandboxed := strings.Contains(h.Get("Content-Security-Policy"), "sandbox"); sandboxed == (h.Get("Content-Type") == "application/pdf") {
			t.Errorf("%q: policy %q", declared, h.Get("Content-Security-Policy"))
		}
		if all := get(f, Options{Download: true}).Header().Get("Content-Disposition"); !strings.HasPrefix(all, "attachment;") {
			t.Errorf("%q, to be saved: %q", declared, all)
		}
		everything := get(f, Options{Inline: func(string) bool { return true }})
		if strings.Contains(everything.Header().Get("Content-Type"), "html") {
			t.Errorf("%q is shown as %v", declared, everything.Header())
		}
	}
}

func TestCacheControl(t *testing.T) {
	t.Parallel()
	if got := get(newMemory(nil), Options{}).Header().Get("Cache-Control"); got != "private, no-store" {
		t.Errorf("Cache-Control = %q", got)
	}
	w := get(newMemory(nil), Options{}, func(h http.Header) {
		h.Set("Cache-Control", "private, max-age=60")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	})
	if w.Header().Get("Cache-Control") != "private, max-age=60" || w.Header().Get("Cross-Origin-Resource-Policy") != "cross-origin" {
		t.Errorf("headers set before = %v", w.Header())
	}
	for tag, want := range map[string]string{`"abc"`: `"abc"`, `W/"abc"`: "", "abc": "", "\"a\r\nb\"": "", "": "", `"`: "", `"a"b"`: ""} {
		f := newMemory(nil)
		f.tag = tag
		if got := get(f, Options{}).Header().Get("ETag"); got != want {
			t.Errorf("ETag for %q = %q, want %q", tag, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 300)
	for name, want := range map[string]string{
		"report.pdf":           "report.pdf",
		"../../etc/passwd":     "passwd",
		`C:\Users\a\b.txt`:     "b.txt",
		"a\r\nSet-Cookie: x=1": "aSet-Cookie_ x=1",
		"a\x00b\x7fc\u0085":    "abc",
		`he said "hi".txt`:     "he said _hi_.txt",
		"Müller & Söhne.pdf":   "Müller & Söhne.pdf",
		"invoice\u202efdp.exe": "invoicefdp.exe",
		"a\u2028b\u200d":       "ab",
		"  .hidden. ":          "hidden",
		"...":                  "file",
		"":                     "file",
		"/":                    "file",
		"日本語.txt":              "日本語.txt",
		"100%.txt":             "100%.txt",
		"a;b=c'd.txt":          "a;b=c'd.txt",
		"bad\xffutf8":          "bad_utf8",
		long + ".jpeg":         strings.Repeat("ä", (maxName-5)/2) + ".jpeg",
		long:                   strings.Repeat("ä", maxName/2),
	} {
		f := newMemory(nil)
		f.name = name
		header := get(f, Options{Download: true}).Header().Get("Content-Disposition")
		disposition, params, err := mime.ParseMediaType(header)
		if err != nil || disposition != "attachment" {
			t.Errorf("%q: %q does not parse: %v", name, header, err)
			continue
		}
		got := params["filename"]
		if got != want {
			t.Errorf("%q is saved as %q, want %q (%s)", name, got, want, header)
		}
		for i := range len(header) {
			if c := header[i]; c < ' ' || c >= 0x7f {
				t.Errorf("%q: byte %#x in %q", name, c, header)
			}
		}
	}
}

func FuzzName(f *testing.F) {
	for _, name := range []string{"a.txt", "../a", "a\"b\\", "\xff\u202e\r\n", strings.Repeat("é", 200)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		clean := cleanName(name)
		if clean == "" || len(clean) > maxName || strings.ContainsAny(clean, "/\\\"\r\n\x00") || cleanName(clean) != clean {
			t.Errorf("cleanName(%q) = %q, again %q", name, clean, cleanName(clean))
		}
		header := "attachment" + dispositionName(clean)
		if _, params, err := mime.ParseMediaType(header); err != nil || params["filename"] != clean {
			t.Errorf("%q: %q parses to %q, %v", name, header, params["filename"], err)
		}
	})
}

// A damaged object is never a short success, over HTTP/1.1 and over HTTP/2, where
// a stream that ends in time looks complete.
func TestDamageBreaksTheTransfer(t *testing.T) {
	t.Parallel()
	const size = 2_000_000
	for name, change := range map[string]func(raw []byte) []byte{
		"late":     func(raw []byte) []byte { raw[1_500_000] ^= 1; return raw },
		"at once":  func(raw []byte) []byte { raw[100] ^= 1; return raw },
		"replaced": func(raw []byte) []byte { return append(raw[:len(raw):len(raw)], 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logged bytes.Buffer
			s := newStore(t, pattern(size), "video/mp4")
			f, err := s.Open(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			open := func(context.Context, string) (File, error) {
				if _, err := f.Seek(0, io.SeekStart); err != nil {
					return nil, err
				}
				return f, nil // opened before the damage
			}
			handler := Handler(func(*http.Request) (string, error) { return "", nil }, open, Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			// Middleware that hides the length makes a short body look whole, unless
			// the connection is broken off.
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				handler.ServeHTTP(lengthless{w}, r)
			}))
			server.EnableHTTP2 = true
			server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			server.StartTLS()
			defer server.Close()
			s.change(t, change)
			for _, protocols := range []string{"HTTP/1.1", "HTTP/2.0"} {
				client := server.Client()
				if protocols == "HTTP/1.1" {
					transport := client.Transport.(*http.Transport).Clone()
					transport.ForceAttemptHTTP2 = false
					transport.TLSClientConfig.NextProtos = nil
					transport.Protocols = new(http.Protocols)
					transport.Protocols.SetHTTP1(true)
					client = &http.Client{Transport: transport}
				}
				resp, err := client.Get(server.URL)
				if err != nil {
					continue // before a byte came
				}
				if resp.Proto != protocols {
					t.Errorf("%s was spoken, not %s", resp.Proto, protocols)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err == nil || len(got) >= size || !bytes.HasPrefix(s.plaintext, got) {
					t.Errorf("%s: %d bytes, %v", protocols, len(got), err)
				}
			}
			server.Close()
			if !strings.Contains(logged.String(), "broken off") {
				t.Errorf("log: %q", logged.String())
			}
		})
	}
}

// lengthless takes the length out, as compressing middleware does.
type lengthless struct{ http.ResponseWriter }

func (l lengthless) WriteHeader(status int) {
	l.Header().Del("Content-Length")
	l.ResponseWriter.WriteHeader(status)
}

// A client that takes nothing, and one that goes away, are let go of.
func TestSlowAndVanishingClients(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]bool{"stalls": false, "leaves": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, make([]byte, 32<<20), "video/mp4")
			done := make(chan struct{})
			handler := s.handler(Options{Stall: 300 * time.Millisecond})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(done)
				handler.ServeHTTP(w, r)
			}))
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			if line, err := bufio.NewReaderSize(conn, 16).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
				t.Fatalf("%q, %v", line, err)
			}
			if leave {
				conn.Close()
			}
			select {
			case <-done:
			case <-time.After(30 * time.Second):
				t.Fatal("the handler still waits")
			}
		})
	}
}

// A slow download is no stalled one, and a connection serves further requests.
func TestPatience(t *testing.T) {
	t.Parallel()
	s := newStore(t, pattern(100_000), "video/mp4")
	server := httptest.NewServer(s.handler(Options{Stall: 500 * time.Millisecond}))
	defer server.Close()
	for range 3 {
		resp, err := http.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(body(t, resp), s.plaintext) {
			t.Error("another content")
		}
		time.Sleep(300 * time.Millisecond)
	}
}
