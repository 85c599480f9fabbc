package ui

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// recorder is a Source that notes what it was asked to change.
type recorder struct{ changes []string }

func (r *recorder) source() Source {
	return Source{
		Name: "ops",
		Runs: func() Section[[]Run] { return Section[[]Run]{} }, Versions: func() Section[Versions] { return Section[Versions]{} },
		Keys: func() Section[Keys] { return Section[Keys]{} }, Branches: func() Section[[]Store] { return Section[[]Store]{} },
		Inventory: func() Section[[]Item] { return Section[[]Item]{} }, History: func() Section[[]Past] { return Section[[]Past]{} },
		SetState: func(table, run, action string) Answer {
			r.changes = append(r.changes, action+" "+table+" "+run)
			return Answer{Status: http.StatusOK, Text: "done"}
		},
		Examine: func() Answer {
			r.changes = append(r.changes, "examine")
			return Answer{Status: http.StatusOK, Text: "begun"}
		},
	}
}

// asHeader lets the request say what it may do.
func asHeader(r *http.Request) Access {
	return map[string]Access{"read": Read, "control": Control}[r.Header.Get("Authorization")]
}

// headersOf parses "Name: value" for each.
func headersOf(lines ...string) http.Header {
	h := make(http.Header)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Set(name, value)
	}
	return h
}

const (
	reads    = "Authorization: read"
	controls = "Authorization: control"
	fromPage = Header + ": 1"
	ours     = "Origin: http://ops.example:8399"
)

// Each request that must be refused is, and changes nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, method, path string
		headers            http.Header
		want               int
	}{
		{"nobody reads", "GET", "/api/runs", headersOf(), 401},
		{"nobody learns what he may do", "GET", "/api/about", headersOf(), 401},
		{"nobody changes", "POST", "/api/examine", headersOf(fromPage, ours), 401},
		{"a reader examines", "POST", "/api/examine", headersOf(reads, fromPage, ours), 403},
		{"a reader pauses", "POST", "/api/runs/users/1/pause", headersOf(reads, fromPage, ours), 403},
		{"another site reads", "GET", "/api/runs", headersOf(controls, "Sec-Fetch-Site: cross-site"), 403},
		{"a site beside it reads", "GET", "/api/runs", headersOf(controls, "Sec-Fetch-Site: same-site"), 403},
		{"another site changes", "POST", "/api/examine", headersOf(controls, fromPage, ours, "Sec-Fetch-Site: cross-site"), 403},
		{"no origin", "POST", "/api/examine", headersOf(controls, fromPage), 403},
		{"a hidden origin", "POST", "/api/examine", headersOf(controls, fromPage, "Origin: null"), 403},
		{"an empty origin", "POST", "/api/examine", headersOf(controls, fromPage, "Origin: http://"), 403},
		{"another origin", "POST", "/api/examine", headersOf(controls, fromPage, "Origin: http://evil.example:8399"), 403},
		{"another port", "POST", "/api/examine", headersOf(controls, fromPage, "Origin: http://ops.example:80"), 403},
		{"no header of the page", "POST", "/api/examine", headersOf(controls, ours), 403},
		{"a form", "POST", "/api/runs/users/1/cancel", headersOf(controls, ours, "Content-Type: application/x-www-form-urlencoded"), 403},
		{"GET changes", "GET", "/api/runs/users/1/cancel", headersOf(controls, fromPage, ours), 405},
		{"GET examines", "GET", "/api/examine", headersOf(controls, fromPage, ours), 405},
		{"PUT", "PUT", "/api/runs", headersOf(controls, fromPage, ours), 405},
		{"DELETE", "DELETE", "/api/runs/users/1/cancel", headersOf(controls, fromPage, ours), 405},
		{"POST of a section", "POST", "/api/runs", headersOf(controls, fromPage, ours), 405},
		{"POST of the page", "POST", "/", headersOf(controls, fromPage, ours), 405},
		{"another file", "GET", "/handler.go", headersOf(controls), 404},
		{"another section", "GET", "/api/secrets", headersOf(controls), 404},
		{"a part of a path", "POST", "/api/runs/users/pause", headersOf(controls, fromPage, ours), 404},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var r recorder
			answer := ask(Handler(r.source(), asHeader), test.method, test.path, test.headers)
			if answer.Code != test.want || len(r.changes) > 0 {
				t.Errorf("%s %s = %d, and it did %v; want %d", test.method, test.path, answer.Code, r.changes, test.want)
			}
			hasHeaders(t, answer)
		})
	}
}

func ask(h http.Handler, method, path string, headers http.Header) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, "http://ops.example:8399"+path, nil)
	request.Header = headers
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, request)
	return answer
}

func hasHeaders(t *testing.T, answer *httptest.ResponseRecorder) {
	t.Helper()
	for name, value := range headers {
		if got := answer.Header().Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	if allowed := answer.Header().Get("Access-Control-Allow-Origin"); allowed != "" {
		t.Errorf("another site may read: %s", allowed)
	}
}

// What may be done is done: once, with the names that were given.
func TestChanges(t *testing.T) {
	t.Parallel()
	var r recorder
	h := Handler(r.source(), asHeader)
	for _, path := range []string{"/api/runs/public.users/R%2F1/pause", "/api/runs/users/R1/resume", "/api/runs/users/R1/cancel", "/api/examine"} {
		if answer := ask(h, "POST", path, headersOf(controls, fromPage, ours, "Sec-Fetch-Site: same-origin")); answer.Code != 200 {
			t.Errorf("POST %s = %d %s", path, answer.Code, answer.Body)
		}
	}
	const want = "pause public.users R/1, resume users R1, cancel users R1, examine"
	if got := strings.Join(r.changes, ", "); got != want {
		t.Errorf("done: %s, want %s", got, want)
	}
}

// Everybody who may read gets the sections, and is told what he may do.
func TestSections(t *testing.T) {
	t.Parallel()
	var r recorder
	h := http.StripPrefix("/ops", Handler(r.source(), asHeader))
	for _, path := range []string{"/", "/page.css", "/page.js", "/api/about", "/api/runs", "/api/versions", "/api/keys", "/api/branches", "/api/inventory", "/api/history"} {
		answer := ask(h, "GET", "/ops"+path, headersOf(reads))
		if answer.Code != 200 || answer.Body.Len() == 0 {
			t.Errorf("GET %s = %d", path, answer.Code)
		}
		hasHeaders(t, answer)
	}
	for who, control := range map[string]bool{reads: false, controls: true} {
		var about struct{ Control bool }
		if err := json.Unmarshal(ask(h, "GET", "/ops/api/about", headersOf(who)).Body.Bytes(), &about); err != nil || about.Control != control {
			t.Errorf("%s: control is %v, %v", who, about.Control, err)
		}
	}
}

// The Content-Security-Policy would stop what the page must not have. It has none of it.
func TestPageObeysItsPolicy(t *testing.T) {
	t.Parallel()
	for name, forbidden := range map[string]string{
		"page.html": `(?i)<script[^>]*>[^<]|<style|\sstyle=|\son[a-z]+=|https?:|javascript:`,
		"page.js":   `innerHTML\s*=[^=]|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|\.style\b|localStorage|sessionStorage|cookie`,
		"page.css":  `@import|url\(`,
	} {
		text, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if found := regexp.MustCompile(forbidden).Find(text); found != nil {
			t.Errorf("%s has %q", name, found)
		}
	}
}

func TestForLoopback(t *testing.T) {
	t.Parallel()
	h := ForLoopback(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for host, want := range map[string]int{
		"localhost:8399": 200, "localhost": 200, "127.0.0.1:8399": 200, "127.0.0.1": 200, "127.3.2.1:1": 200, "[::1]:8399": 200, "[::1]": 200,
		"evil.example": 421, "evil.example:8399": 421, "localhost.evil.example:8399": 421, "127.0.0.1.evil.example": 421, "192.168.1.4:8399": 421,
		"0.0.0.0:8399": 421, "": 421, "2130706433": 421, "[::]:8399": 421, "localhost:8399:1": 421,
	} {
		request := httptest.NewRequest("GET", "/", nil)
		request.Host = host
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, request)
		if answer.Code != want {
			t.Errorf("Host %q = %d, want %d", host, answer.Code, want)
		}
	}
}
