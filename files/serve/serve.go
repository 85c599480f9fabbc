package serve

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// File is an opened file. Content closes nothing; handlers close it.
type File interface {
	io.ReadSeeker
	io.Closer
	// Name is what the file is saved as; it is cleaned before it is used.
	Name() string
	// ContentType is a media type, which may lie.
	ContentType() string
	// ModTime is when the file was written; the zero value if that is not known.
	ModTime() time.Time
	// ETag is a strong entity tag in quotes, another one for other bytes, such as
	// the file id. Empty if there is none.
	ETag() string
}

// Options change how files are served. The zero value is right for most programs.
type Options struct {
	// Download makes browsers save every file, whatever its type.
	Download bool
	// Inline says which content types a browser may show; nil is [Inline]. It gets
	// the type in lower case, without parameters. Types that can run scripts are
	// never shown.
	Inline func(contentType string) bool
	// Stall is how long a client may take nothing before the connection is closed.
	// 0 is one minute, below 0 there is no limit but the server's own.
	Stall time.Duration
	// Logger is told of what the client is not: why opening failed, and why a
	// transfer was broken off. Nil is silent.
	Logger *slog.Logger
}

const defaultStall = time.Minute

func (o Options) withDefaults() Options {
	if o.Inline == nil {
		o.Inline = Inline
	}
	if o.Stall == 0 {
		o.Stall = defaultStall
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Errors that an authorize function may return, beside those of package io/fs and
// of the library.
var (
	// ErrUnauthorized: nobody is logged in. The answer is 401; set WWW-Authenticate
	// before, if the client is to ask for a password.
	ErrUnauthorized = errors.New("serve: not logged in")
	// ErrForbidden: whoever is logged in may not. The answer is 403.
	ErrForbidden = errors.New("serve: forbidden")
)

// Handler serves files. For each request it first calls authorize, which says
// whether the client may have a file, and which; only then it calls open. Both
// get the context of the request. The handler closes the file.
//
// Only GET and HEAD are answered. An error of either function is answered by its
// status and nothing else: [ErrUnauthorized] 401, [ErrForbidden] and
// [fs.ErrPermission] 403, [fs.ErrNotExist] and [ErrLink] 404, [ErrExpired] 410,
// a key service or store that may recover ([kmsencrypted.Retryable]) 503, all
// others 500. To hide which files there are, return fs.ErrNotExist where others
// return ErrForbidden.
func Handler[T any, F File](authorize func(*http.Request) (T, error), open func(context.Context, T) (F, error), o Options) http.Handler {
	return handler(func(r *http.Request) (T, bool, error) {
		which, err := authorize(r)
		return which, false, err
	}, open, o)
}

// handler lets authorize say in addition that the file is to be saved.
func handler[T any, F File](authorize func(*http.Request) (which T, download bool, err error), open func(context.Context, T) (F, error), o Options) http.Handler {
	o = o.withDefaults()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			fail(w, http.StatusMethodNotAllowed)
			return
		}
		which, download, err := authorize(r)
		if err != nil {
			refuse(w, r, o, "authorize", err)
			return
		}
		f, err := open(r.Context(), which)
		if err != nil {
			refuse(w, r, o, "open", err)
			return
		}
		defer f.Close()
		o := o
		o.Download = o.Download || download
		Content(w, r, f, o)
	})
}

// statuses are the answers to errors.
var statuses = []struct {
	err    error
	status int
}{
	{ErrUnauthorized, http.StatusUnauthorized},
	{ErrForbidden, http.StatusForbidden},
	{fs.ErrPermission, http.StatusForbidden},
	{ErrExpired, http.StatusGone},
	{ErrLink, http.StatusNotFound},
	{fs.ErrNotExist, http.StatusNotFound},
}

func refuse(w http.ResponseWriter, r *http.Request, o Options, what string, err error) {
	status := http.StatusInternalServerError
	if kmsencrypted.Retryable(err) {
		status = http.StatusServiceUnavailable
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			status = s.status
			break
		}
	}
	if status >= http.StatusInternalServerError {
		o.Logger.ErrorContext(r.Context(), "file not served", "step", what, "path", r.URL.Path, "error", err)
	}
	fail(w, status)
}

func fail(w http.ResponseWriter, status int) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, http.StatusText(status), status)
}

// Content answers a request with a file: [http.ServeContent] with the headers and
// the care of this package. It does not close the file. If reading fails on the
// way, it panics with [http.ErrAbortHandler], which breaks the connection off.
func Content(w http.ResponseWriter, r *http.Request, f File, o Options) {
	o = o.withDefaults()
	setHeaders(w.Header(), f, o)
	source := &source{File: f}
	out := &client{ResponseWriter: w, control: http.NewResponseController(w), stall: o.Stall}
	// The name is only for guessing a type, which is set.
	http.ServeContent(out, r, "", f.ModTime(), source)
	if err := source.failed(); err != nil {
		if r.Context().Err() == nil {
			o.Logger.ErrorContext(r.Context(), "file broken off", "path", r.URL.Path, "error", err)
		}
		panic(http.ErrAbortHandler)
	}
}
