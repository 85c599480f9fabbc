package serve

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Progress grows to the size of each answer, and says nothing of what is no file.
func TestProgress(t *testing.T) {
	t.Parallel()
	const size = 1_000_000
	for asked, want := range map[string]int64{"": size, "bytes=10-599999": 599_990, "bytes=-5": 5, "bytes=2000000-": 0, "HEAD": 0} {
		var calls int
		var done, total int64
		o := Options{Progress: func(r *http.Request, d, n int64) {
			if d <= done || d > n {
				t.Errorf("%q: %d of %d after %d", asked, d, n, done)
			}
			calls, done, total = calls+1, d, n
		}}
		r := httptest.NewRequest("GET", "/x", nil)
		if asked == "HEAD" {
			r.Method = asked
		} else if asked != "" {
			r.Header.Set("Range", asked)
		}
		w := httptest.NewRecorder()
		Content(w, r, newMemory(bytes.Repeat([]byte("x"), size)), o)
		if done != want || total != want || want > 500_000 && calls < 3 {
			t.Errorf("%q: %d of %d in %d calls, want %d", asked, done, total, calls, want)
		}
	}
}
