package serve

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A Range that must be ignored is (RFC 9110, section 14.2): in another unit, and of an
// empty file.
func TestIgnoredRanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		content, asked string
		want           int
		named, body    string
	}{
		{"content", "items=0-1", 200, "", "content"},
		{"content", "bytes=1-2", 206, "bytes 1-2/7", "on"},
		{"content", "Bytes=1-2", 206, "bytes 1-2/7", "on"},
		{"content", "bytes=-3", 206, "bytes 4-6/7", "ent"},
		{"content", "bytes=9-", 416, "bytes */7", ""},
		{"content", "bytes=-0", 416, "bytes */7", ""},
		{"content", "bytes=-00, -0", 416, "bytes */7", ""},
		{"content", "bytes=-0, 1-2", 206, "bytes 1-2/7", "on"},
		{"content", "bytes=-", 416, "", ""},
		{"", "bytes=-5", 200, "", ""},
		{"", "bytes=0-", 200, "", ""},
		{"", "items=0-", 200, "", ""},
	} {
		r := httptest.NewRequest("GET", "/x", nil)
		r.Header.Set("Range", c.asked)
		w := httptest.NewRecorder()
		Content(w, r, newMemory([]byte(c.content)), Options{})
		if w.Code != c.want || w.Header().Get("Content-Range") != c.named || c.want != http.StatusRequestedRangeNotSatisfiable && w.Body.String() != c.body {
			t.Errorf("%q of %q = %d, Content-Range %q, %q, want %d, %q, %q", c.asked, c.content, w.Code, w.Header().Get("Content-Range"), w.Body, c.want, c.named, c.body)
		}
		if r.Header.Get("Range") != c.asked {
			t.Errorf("%q: the caller's request was changed", c.asked)
		}
	}
}
