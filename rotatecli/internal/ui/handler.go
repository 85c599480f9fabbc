package ui

import (
	"embed"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
)

// Access is what a request may do.
type Access uint8

const (
	None    Access = iota // nothing
	Read                  // see everything
	Control               // also pause, resume and cancel runs, and examine key services
)

// Header must be in every request that changes something. A page of another site cannot
// send it without being asked first, and nothing here allows it.
const Header = "Kmsencrypted-Ui"

//go:embed page.html page.css page.js
var files embed.FS

// Handler serves the page under any path that ends with a slash. The page itself is the
// same for everybody; authorize decides about its data.
func Handler(s Source, authorize func(*http.Request) Access) http.Handler {
	mux := http.NewServeMux()
	for path, name := range map[string]string{"GET /{$}": "page.html", "GET /page.css": "page.css", "GET /page.js": "page.js"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, name) })
	}
	api := http.NewServeMux()
	api.HandleFunc("GET /api/about", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, map[string]any{"name": s.Name, "token": s.Token, "control": authorize(r) == Control})
	})
	section(api, "runs", s.Runs)
	section(api, "versions", s.Versions)
	section(api, "keys", s.Keys)
	section(api, "branches", s.Branches)
	section(api, "inventory", s.Inventory)
	section(api, "history", s.History)
	api.HandleFunc("POST /api/runs/{table}/{run}/{action}", func(w http.ResponseWriter, r *http.Request) {
		a := s.SetState(r.PathValue("table"), r.PathValue("run"), r.PathValue("action"))
		reply(w, a.Status, a)
	})
	api.HandleFunc("POST /api/examine", func(w http.ResponseWriter, r *http.Request) {
		a := s.Examine()
		reply(w, a.Status, a)
	})
	mux.Handle("/api/", guarded(api, authorize))
	return withHeaders(mux)
}

func section[T any](mux *http.ServeMux, name string, get func() Section[T]) {
	mux.HandleFunc("GET /api/"+name, func(w http.ResponseWriter, r *http.Request) { reply(w, http.StatusOK, get()) })
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // an error means that the client is gone
}

// guarded lets a request through that may do what it asks for.
func guarded(next http.Handler, authorize func(*http.Request) Access) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, text := refusal(r, authorize); status != 0 {
			reply(w, status, Answer{Text: text})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refusal is why a request is refused; a status of 0 means that it is not.
func refusal(r *http.Request, authorize func(*http.Request) Access) (status int, text string) {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	site := r.Header.Get("Sec-Fetch-Site")
	switch access := authorize(r); {
	case site != "" && site != "same-origin" && site != "none":
		return http.StatusForbidden, "the request comes from another site"
	case access == None:
		return http.StatusUnauthorized, "this needs the token"
	case reads:
		return 0, ""
	case access != Control:
		return http.StatusForbidden, "this page is read-only"
	case r.Header.Get(Header) == "" || !sameOrigin(r):
		return http.StatusForbidden, "the request does not come from this page"
	}
	return 0, ""
}

// sameOrigin reports whether a request comes from a page of this server. Browsers send
// Origin with every POST.
func sameOrigin(r *http.Request) bool {
	origin, err := url.Parse(r.Header.Get("Origin"))
	return err == nil && origin.Host != "" && origin.Host == r.Host
}

// headers are those of every answer.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
	"Cache-Control":                "no-store",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		next.ServeHTTP(w, r)
	})
}

// ForLoopback refuses requests that name another host than this machine: a site whose
// name was made to point here (DNS rebinding) would be the same origin as this page.
// The port is not checked, because a tunnel may have another one.
func ForLoopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !IsLoopback(host) {
			http.Error(w, "this page is for this machine only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// IsLoopback reports whether a host, without a port, is this machine.
func IsLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
