package serve

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// compared are the headers that say what a client got.
var compared = []string{"Content-Range", "Content-Length", "Accept-Ranges", "Etag", "Last-Modified"}

// peers are a server of an encrypted file and one of its plaintext by package http
// alone.
func peers(t *testing.T, s store) (encrypted, plain *httptest.Server, tag string, modified time.Time) {
	t.Helper()
	f, err := s.Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	encrypted = httptest.NewServer(s.handler(Options{}))
	t.Cleanup(encrypted.Close)
	plain = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "video/mp4")
		w.Header().Set("ETag", f.ETag())
		http.ServeContent(w, r, "", f.ModTime(), bytes.NewReader(s.plaintext))
	}))
	t.Cleanup(plain.Close)
	return encrypted, plain, f.ETag(), f.ModTime()
}

// Every answer is, byte by byte, that of http.ServeContent on the plaintext.
func TestLikeServeContent(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	const size = 700_001
	s := newStore(t, pattern(size), "video/mp4")
	encrypted, plain, tag, modified := peers(t, s)
	ask := func(url, method string, header http.Header) (*http.Response, []byte) {
		r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header.Clone()
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		content := body(t, resp)
		// The boundary between ranges is random, and long or short.
		if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && params["boundary"] != "" {
			content = bytes.ReplaceAll(content, []byte(params["boundary"]), []byte("BOUNDARY"))
		}
		return resp, content
	}
	one := func() string {
		switch a, b := random.IntN(size+20), random.IntN(size+20); random.IntN(8) {
		case 0:
			return fmt.Sprintf("%d-", a)
		case 1:
			return fmt.Sprintf("-%d", a%100_000)
		case 2:
			return fmt.Sprintf("%d-%d", a, a)
		case 3:
			at := a / 16384 * 16384
			return fmt.Sprintf("%d-%d", at, at+16383)
		case 4:
			return fmt.Sprintf("%d-%d", a, b) // perhaps the wrong way round
		default:
			return fmt.Sprintf("%d-%d", a, a+random.IntN(70_000))
		}
	}
	conditions := []func(h http.Header){
		func(h http.Header) {}, func(h http.Header) {}, func(h http.Header) {},
		func(h http.Header) { h.Set("If-Range", tag) },
		func(h http.Header) { h.Set("If-Range", `"other"`) },
		func(h http.Header) { h.Set("If-Range", modified.UTC().Format(http.TimeFormat)) },
		func(h http.Header) { h.Set("If-None-Match", tag) },
		func(h http.Header) { h.Set("If-None-Match", `"a", W/`+tag) },
		func(h http.Header) { h.Set("If-None-Match", `"a"`) },
		func(h http.Header) { h.Set("If-Match", `"a"`) },
		func(h http.Header) { h.Set("If-Match", `"a", `+tag) },
		func(h http.Header) { h.Set("If-Modified-Since", modified.UTC().Format(http.TimeFormat)) },
		func(h http.Header) {
			h.Set("If-Unmodified-Since", modified.Add(-time.Hour).UTC().Format(http.TimeFormat))
		},
	}
	statuses := make(map[int]int)
	for i := range 400 {
		header := make(http.Header)
		ranges := make([]string, random.IntN(4))
		for i := range ranges {
			ranges[i] = one()
		}
		if len(ranges) > 0 {
			header.Set("Range", "bytes="+strings.Join(ranges, ", "))
		}
		conditions[random.IntN(len(conditions))](header)
		method := "GET"
		if i%10 == 0 {
			method = "HEAD"
		}
		got, gotBody := ask(encrypted.URL, method, header)
		want, wantBody := ask(plain.URL, method, header)
		statuses[want.StatusCode]++
		if got.StatusCode != want.StatusCode || !bytes.Equal(gotBody, wantBody) {
			t.Errorf("%s %v = %d with %d bytes, want %d with %d", method, header, got.StatusCode, len(gotBody), want.StatusCode, len(wantBody))
		}
		for _, name := range compared {
			if got.Header.Get(name) != want.Header.Get(name) {
				t.Errorf("%s %v: %s = %q, want %q", method, header, name, got.Header.Get(name), want.Header.Get(name))
			}
		}
	}
	for _, status := range []int{200, 206, 304, 412, 416} {
		if statuses[status] == 0 {
			t.Errorf("no answer was %d: %v", status, statuses)
		}
	}
}

// The same with a real client, also with a damaged object.
func TestCurl(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("curl is not installed")
	}
	const size = 3_000_000
	s := newStore(t, pattern(size), "video/mp4")
	encrypted, plain, tag, _ := peers(t, s)
	out := filepath.Join(t.TempDir(), "out")
	fetch := func(url string, args ...string) (content []byte, exit int) {
		os.Remove(out)
		cmd := exec.CommandContext(t.Context(), curl, append([]string{"--silent", "--noproxy", "*", "--max-time", "60", "--output", out, url}, args...)...)
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(out)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return content, cmd.ProcessState.ExitCode()
	}
	random := rand.New(rand.NewPCG(5, 6))
	calls := [][]string{{}, {"--range", "0-0"}, {"--range", "-1"}, {"--range", "2999999-"}, {"--header", "If-None-Match: " + tag}, {"--header", "If-Match: \"a\"", "--fail"}, {"--range", "3000000-", "--fail"}}
	for range 25 {
		from := random.IntN(size)
		calls = append(calls, []string{"--range", fmt.Sprintf("%d-%d", from, from+random.IntN(300_000))})
	}
	for _, args := range calls {
		got, gotExit := fetch(encrypted.URL, args...)
		want, wantExit := fetch(plain.URL, args...)
		if !bytes.Equal(got, want) || gotExit != wantExit {
			t.Errorf("curl %q = %d bytes, exit %d, want %d, exit %d", args, len(got), gotExit, len(want), wantExit)
		}
	}
	// Taking up a transfer.
	if err := os.WriteFile(out+"2", s.plaintext[:1_234_567], 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), curl, "--silent", "--noproxy", "*", "--continue-at", "-", "--output", out+"2", encrypted.URL)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out + "2"); err != nil || !bytes.Equal(got, s.plaintext) {
		t.Errorf("curl --continue-at - = %d bytes, %v", len(got), err)
	}

	s.change(t, func(raw []byte) []byte { raw[2_000_000] ^= 1; return raw })
	for _, args := range [][]string{{}, {"--http1.0"}, {"--range", "1000000-2500000"}, {"--range", "0-10,1900000-2100000"}, {"--compressed"}} {
		got, exit := fetch(encrypted.URL, args...)
		if exit == 0 || len(got) >= size {
			t.Errorf("curl %q of a damaged file = %d bytes, exit %d", args, len(got), exit)
		}
	}
}

// Thousands of ranges fit into one header, and each costs the decryption of a chunk. Too
// many are answered with the whole file.
func TestManyRanges(t *testing.T) {
	t.Parallel()
	s := newStore(t, pattern(700_001), "video/mp4")
	for n, want := range map[int]int{1: 206, maxRanges: 206, maxRanges + 1: 200, 20_000: 200} {
		ranges := make([]string, n)
		for i := range ranges {
			ranges[i] = fmt.Sprintf("%d-%d", i*20, i*20)
		}
		f, err := s.Open(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Range", "bytes="+strings.Join(ranges, ","))
		w := httptest.NewRecorder()
		Content(w, r, f, Options{})
		f.Close()
		if w.Code != want || want == 200 && w.Body.Len() != len(s.plaintext) {
			t.Errorf("%d ranges = %d with %d bytes, want %d", n, w.Code, w.Body.Len(), want)
		}
	}
}
