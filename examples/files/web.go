package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/serve"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"size": size}).Parse(pageText))

// The page needs pictures, media and texts of its own and one style sheet.
const pagePolicy = "default-src 'none'; img-src 'self'; media-src 'self'; frame-src 'self'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'"

func (a *app) handler() http.Handler {
	logger := slog.Default()
	show, save := serve.Options{Logger: logger}, serve.Options{Logger: logger, Download: true}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.index)
	mux.HandleFunc("POST /documents", a.upload)
	mux.HandleFunc("POST /documents/{file}/delete", a.delete)
	mux.Handle("GET /files/{file}", serve.Handler(a.mayRead, a.files.Open, show))
	mux.Handle("GET /downloads/{file}", serve.Handler(a.mayRead, a.files.Open, save))
	mux.Handle("GET /shared/{token}", serve.LinkHandler(a.links, "share", a.openShared, save))
	return onlyHere(http.NewCrossOriginProtection().Handler(mux))
}

// onlyHere answers nobody but this machine, under its own name: a page of another
// site could otherwise have its name point to us.
func onlyHere(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil || host != "localhost" && !net.ParseIP(host).IsLoopback() {
			http.Error(w, "this application is for this machine only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// mayRead is where a real application looks who is asking.
func (a *app) mayRead(r *http.Request) (*attach.Attachment, error) {
	return a.files.Find(r.Context(), r.PathValue("file"))
}

func (a *app) openShared(ctx context.Context, id string) (*attach.File, error) {
	file, err := a.files.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	return a.files.Open(ctx, file)
}

// shown is an item as the page shows it.
type shown struct {
	item
	Kind, Share string
}

func (a *app) index(w http.ResponseWriter, r *http.Request) {
	items, err := a.list(r.Context())
	if err != nil {
		failed(w, r, err)
		return
	}
	view := make([]shown, len(items))
	for i, it := range items {
		view[i] = shown{item: it, Kind: kind(it.File.ContentType)}
		view[i].Share, err = a.links.Sign(serve.Link{ID: it.File.ID, Purpose: "share", Expires: time.Now().Add(time.Hour)})
		if err != nil {
			failed(w, r, err)
			return
		}
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Cache-Control", "no-store")
	if err := page.Execute(w, view); err != nil {
		slog.Error("page", "error", err)
	}
}

// kind is how a file is shown on the page.
func kind(contentType string) string {
	base, _, _ := strings.Cut(contentType, ";")
	group, _, _ := strings.Cut(base, "/")
	if !serve.Inline(base) || strings.Contains(base, "svg") {
		return ""
	}
	return group
}

// upload streams: parts are not put into temporary files, where they would lie in
// the clear.
func (a *app) upload(w http.ResponseWriter, r *http.Request) {
	parts, err := r.MultipartReader()
	if err != nil {
		http.Error(w, "not a form", http.StatusBadRequest)
		return
	}
	var note string
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		} else if err != nil {
			http.Error(w, "the form broke off", http.StatusBadRequest)
			return
		}
		switch part.FormName() {
		case "note": // comes before the file
			text, err := io.ReadAll(io.LimitReader(part, 10_000))
			if err != nil {
				http.Error(w, "the form broke off", http.StatusBadRequest)
				return
			}
			note = string(text)
		case "file":
			err := a.add(r.Context(), note, part, attach.Options{Name: part.FileName(), ContentType: part.Header.Get("Content-Type")})
			if err != nil {
				failed(w, r, err)
				return
			}
		}
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (a *app) delete(w http.ResponseWriter, r *http.Request) {
	file, err := a.files.Find(r.Context(), r.PathValue("file"))
	if err != nil {
		failed(w, r, err)
		return
	}
	id, err := strconv.ParseInt(file.RecordID[0], 10, 64)
	if err == nil {
		err = a.remove(r.Context(), id)
	}
	if err != nil {
		failed(w, r, err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func failed(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.NotFound(w, r)
		return
	case errors.Is(err, io.ErrUnexpectedEOF):
		http.Error(w, "the form broke off", http.StatusBadRequest)
		return
	}
	slog.Error("request failed", "path", r.URL.Path, "error", err)
	http.Error(w, "that did not work", http.StatusInternalServerError)
}

func size(n int64) string {
	for _, unit := range []string{"bytes", "KiB", "MiB"} {
		if n < 10<<10 {
			return fmt.Sprintf("%d %s", n, unit)
		}
		n >>= 10
	}
	return fmt.Sprintf("%d GiB", n)
}
