package main

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/direct"
	"github.com/kmsencrypted/kmsencrypted/files/serve"
)

//go:embed page.html
var pageText string

//go:embed page.js
var pageScript string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"size": size}).Parse(pageText))

func (a *app) handler() http.Handler {
	o := serve.Options{Logger: slog.Default()}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", http.RedirectHandler("/acme/", http.StatusSeeOther))
	mux.Handle("GET /upload.js", direct.Script())
	mux.HandleFunc("GET /page.js", script)
	for pattern, h := range map[string]http.Handler{
		"GET /{tenant}/{$}":                 http.HandlerFunc(a.index),
		"POST /{tenant}/files":              http.HandlerFunc(a.upload),
		"GET /{tenant}/files/{id}":          serve.Handler(a.mayReadFile, a.openFile, o),
		"POST /{tenant}/files/{id}/delete":  a.delete(a.deleteFile),
		"/{tenant}/sealed":                  a.uploads,
		"GET /{tenant}/sealed/{id}":         serve.Handler(a.mayReadSealed, a.sealed.Open, o),
		"GET /{tenant}/sealed/{id}/small":   serve.Handler(a.mayReadPreview, a.sealed.Open, o),
		"POST /{tenant}/sealed/{id}/delete": a.delete(a.deleteSealed),
	} {
		mux.Handle(pattern, a.forTenant(h))
	}
	return onlyHere(http.NewCrossOriginProtection().Handler(mux))
}

// forTenant puts the tenant of a request into its context. A real application takes it from
// the user who is logged in, or from the name of the host.
func (a *app) forTenant(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant := r.PathValue("tenant")
		if a.serviceOf[tenant] == "" {
			http.NotFound(w, r)
			return
		}
		next.ServeHTTP(w, r.WithContext(files.WithTenant(r.Context(), tenant)))
	})
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

// attached is a file that came through the application.
type attached struct {
	account *Account
	blob    *attach.Blob
}

// mayReadFile finds a file of the tenant's account: nobody reads one of another tenant.
func (a *app) mayReadFile(r *http.Request) (f attached, err error) {
	if f.account, err = a.account(r.Context()); err != nil {
		return f, err
	}
	list, err := a.files.List(r.Context(), f.account, "files")
	n := slices.IndexFunc(list, func(b *attach.Blob) bool { return strconv.FormatInt(b.ID, 10) == r.PathValue("id") })
	if err != nil || n < 0 {
		return f, errors.Join(err, fs.ErrNotExist)
	}
	f.blob = list[n]
	return f, nil
}

func (a *app) openFile(ctx context.Context, f attached) (*attach.File, error) {
	return a.files.Open(ctx, f.account, f.blob)
}

// mayReadSealed is mayReadFile for a sealed one.
func (a *app) mayReadSealed(r *http.Request) (*attach.Attachment, error) {
	c, err := a.account(r.Context())
	if err != nil {
		return nil, err
	}
	file, err := a.sealed.Find(r.Context(), r.PathValue("id"))
	if err == nil && (file.Variant != "" || file.RecordID[0] != strconv.FormatInt(c.ID, 10)) {
		err = fs.ErrNotExist
	}
	return file, err
}

func (a *app) mayReadPreview(r *http.Request) (*attach.Attachment, error) {
	file, err := a.mayReadSealed(r)
	if err != nil {
		return nil, err
	}
	return a.sealed.Derived(r.Context(), file, "small")
}

// mayUpload lets each user of a tenant add sealed files to its account.
func (a *app) mayUpload(r *http.Request) (direct.Grant[Account], error) {
	c, err := a.account(r.Context())
	return direct.Grant[Account]{User: "you", Row: c, Name: "sealed"}, err
}

// item is a file as the page shows it.
type item struct {
	Path, Preview string
	Name, Type    string
	Service       string
	Size          int64
	Created       time.Time
}

// list returns all files of an account, the newest first.
func (a *app) list(ctx context.Context, c *Account) (items []item, err error) {
	blobs, err := a.files.List(ctx, c, "files")
	if err != nil {
		return nil, err
	}
	for _, b := range blobs {
		i := item{Path: fmt.Sprintf("/%s/files/%d", c.Name, b.ID), Name: b.FileName, Type: b.ContentType, Service: b.Service, Size: b.ObjectSize, Created: b.Created}
		if strings.HasPrefix(b.ContentType, "image/") && serve.Inline(b.ContentType) {
			i.Preview = i.Path
		}
		items = append(items, i)
	}
	sealed, err := a.sealed.List(ctx, c, "sealed")
	if err != nil {
		return nil, err
	}
	for _, f := range sealed {
		i := item{Path: fmt.Sprintf("/%s/sealed/%s", c.Name, f.ID), Name: f.FileName, Type: f.ContentType, Service: f.Bucket, Size: f.Size, Created: f.Created}
		if _, err := a.sealed.Derived(ctx, f, "small"); err == nil {
			i.Preview = i.Path + "/small"
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		items = append(items, i)
	}
	slices.SortFunc(items, func(a, b item) int { return b.Created.Compare(a.Created) })
	return items, nil
}

func (a *app) index(w http.ResponseWriter, r *http.Request) {
	c, err := a.account(r.Context())
	if err != nil {
		failed(w, r, err)
		return
	}
	items, err := a.list(r.Context(), c)
	if err != nil {
		failed(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self' "+a.store+
		"; img-src 'self'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'")
	w.Header().Set("Cache-Control", "no-store")
	err = page.Execute(w, map[string]any{
		"Tenant": c.Name, "Tenants": slices.Sorted(maps.Keys(a.serviceOf)), "Service": a.serviceOf[c.Name], "Store": a.store, "Items": items,
	})
	if err != nil {
		slog.Error("page", "error", err)
	}
}

func script(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	io.WriteString(w, pageScript)
}

// upload streams: parts are not put into temporary files, where they would lie in
// the clear.
func (a *app) upload(w http.ResponseWriter, r *http.Request) {
	c, err := a.account(r.Context())
	if err != nil {
		failed(w, r, err)
		return
	}
	parts, err := r.MultipartReader()
	if err != nil {
		http.Error(w, "not a form", http.StatusBadRequest)
		return
	}
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err == nil && part.FormName() == "file" {
			err = a.add(r.Context(), c, part, attach.Options{Name: part.FileName(), ContentType: part.Header.Get("Content-Type")})
		}
		if err != nil {
			failed(w, r, err)
			return
		}
	}
	http.Redirect(w, r, "/"+c.Name+"/", http.StatusSeeOther)
}

// delete answers a request to delete a file by remove, which finds it.
func (a *app) delete(remove func(r *http.Request, tx *sql.Tx) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.transaction(r.Context(), func(tx *sql.Tx) error { return remove(r, tx) }); err != nil {
			failed(w, r, err)
			return
		}
		http.Redirect(w, r, "/"+files.Tenant(r.Context())+"/", http.StatusSeeOther)
	})
}

func (a *app) deleteFile(r *http.Request, tx *sql.Tx) error {
	f, err := a.mayReadFile(r)
	if err != nil {
		return err
	}
	return a.files.Delete(r.Context(), tx, f.blob)
}

func (a *app) deleteSealed(r *http.Request, tx *sql.Tx) error {
	file, err := a.mayReadSealed(r)
	if err != nil {
		return err
	}
	return a.sealed.Delete(r.Context(), tx, file)
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
