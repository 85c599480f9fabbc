package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

func links(t testing.TB, secrets ...string) *Links {
	t.Helper()
	var raw [][]byte
	for _, s := range secrets {
		raw = append(raw, bytes.Repeat([]byte(s), 32))
	}
	l, err := NewLinks(raw...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLinks(t *testing.T) {
	t.Parallel()
	l := links(t, "a")
	now := time.Unix(1_700_000_000, 0)
	l.now = func() time.Time { return now }
	for _, link := range []Link{
		{ID: "7", Purpose: "view", Expires: now.Add(time.Minute)},
		{ID: "", Purpose: "", Expires: now.Add(time.Second), Download: true},
		{ID: "a/ä\x00b", Purpose: "view", Expires: now.Add(time.Hour)},
	} {
		token, err := l.Sign(link)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := l.Verify(token, link.Purpose); err != nil || got != link {
			t.Errorf("Verify = %+v, %v, want %+v", got, err, link)
		}
		if _, err := l.Verify(token, link.Purpose+"x"); !errors.Is(err, ErrLink) {
			t.Errorf("another purpose: %v", err)
		}
		if _, err := links(t, "b").Verify(token, link.Purpose); !errors.Is(err, ErrLink) {
			t.Errorf("another secret: %v", err)
		}
		// After a change of secrets both are good, and the new one signs.
		both := links(t, "b", "a")
		both.now = l.now
		if got, err := both.Verify(token, link.Purpose); err != nil || got != link {
			t.Errorf("old secret: %+v, %v", got, err)
		}
		if renewed, err := both.Sign(link); err != nil || renewed == token {
			t.Errorf("signed by the old secret: %v", err)
		}
		for i := range len(token) {
			for _, c := range []byte{'A', 'B', '.', '=', '\n'} {
				changed := token[:i] + string(c) + token[i+1:]
				if changed == token {
					continue
				}
				if got, err := l.Verify(changed, link.Purpose); !errors.Is(err, ErrLink) {
					t.Errorf("Verify(%q) = %+v, %v", changed, got, err)
				}
			}
		}
		for _, changed := range []string{"", ".", token + "=", token + "A", token + ".", "." + token, token[:len(token)-1], token + "\n"} {
			if _, err := l.Verify(changed, link.Purpose); !errors.Is(err, ErrLink) {
				t.Errorf("Verify(%q): %v", changed, err)
			}
		}
		now = link.Expires.Add(-time.Nanosecond)
		if _, err := l.Verify(token, link.Purpose); err != nil {
			t.Errorf("in the last moment: %v", err)
		}
		now = link.Expires
		if _, err := l.Verify(token, link.Purpose); !errors.Is(err, ErrExpired) {
			t.Errorf("after it: %v", err)
		}
		now = time.Unix(1_700_000_000, 0)
	}
	for _, expires := range []time.Time{{}, now, now.Add(-time.Hour)} {
		if _, err := l.Sign(Link{ID: "7", Expires: expires}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("signing until %v: %v", expires, err)
		}
	}
	longest := Link{ID: strings.Repeat("x", 1024), Expires: now.Add(time.Minute)}
	if token, err := l.Sign(longest); err != nil {
		t.Errorf("signing the longest id: %v", err)
	} else if got, err := l.Verify(token, ""); err != nil || got != longest {
		t.Errorf("Verify of the longest id = %d bytes, %v", len(got.ID), err)
	}
	if token, err := l.Sign(Link{ID: longest.ID + "x", Expires: longest.Expires}); token != "" || !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("signing an id of 1025 bytes = %q, %v, want ErrConfig", token, err)
	}
	for _, secrets := range [][][]byte{nil, {nil}, {make([]byte, 31)}, {make([]byte, 32), make([]byte, 5)}} {
		if _, err := NewLinks(secrets...); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("NewLinks(%d secrets): %v", len(secrets), err)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if text := fmt.Sprintf(verb, l); text != "[redacted]" {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

func TestLinkHandler(t *testing.T) {
	t.Parallel()
	l := links(t, "a")
	mux := http.NewServeMux()
	mux.Handle("GET /s/{token}", LinkHandler(l, "share", func(_ context.Context, id string) (*memory, error) {
		return newMemory([]byte("file " + id)), nil
	}, Options{}))
	sign := func(link Link) string {
		token, err := l.Sign(link)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	soon := time.Now().Add(time.Hour)
	expired := links(t, "a")
	expired.now = func() time.Time { return time.Now().Add(-2 * time.Hour) }
	old, err := expired.Sign(Link{ID: "7", Purpose: "share", Expires: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token, disposition, body string
		status                   int
	}{
		{sign(Link{ID: "7", Purpose: "share", Expires: soon}), "inline", "file 7", 200},
		{sign(Link{ID: "8", Purpose: "share", Expires: soon, Download: true}), "attachment", "file 8", 200},
		{sign(Link{ID: "7", Purpose: "preview", Expires: soon}), "", "Not Found\n", 404},
		{"nonsense", "", "Not Found\n", 404},
		{old, "", "Gone\n", 410},
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", "/s/"+c.token, nil))
		disposition, _, _ := strings.Cut(w.Header().Get("Content-Disposition"), ";")
		if w.Code != c.status || w.Body.String() != c.body || disposition != c.disposition || c.status == 200 && w.Header().Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %d, %q, %q, want %+v", c.token, w.Code, disposition, w.Body, c)
		}
	}
}

func FuzzVerify(f *testing.F) {
	l := links(f, "a")
	token, err := l.Sign(Link{ID: "7", Purpose: "p", Expires: time.Now().Add(time.Hour)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add("AA.AA")
	f.Fuzz(func(t *testing.T, changed string) {
		if link, err := l.Verify(changed, "p"); err == nil && changed != token {
			t.Errorf("%q says %+v", changed, link)
		}
	})
}
