package serve

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// File is an open file. Content does not close it; handlers do.
type File interface {
	io.ReadSeeker
	io.Closer
	// Name is the name to save the file under; it is cleaned before use.
	Name() string
	// ContentType is a media type, which need not be true.
	ContentType() string
	// ModTime is when the file was written, or the zero value if unknown.
	ModTime() time.Time
	// ETag is a strong entity tag in quotes that changes with the content, such as
	// the file id. Empty means none.
	ETag() string
}

// Options change how files are served. The zero value suits most programs.
type Options struct {
	// Download makes browsers save every file, whatever its type.
	Download bool
	// Inline reports whether a browser may show a content type; nil means [Inline].
	// It receives the type in lower case, without parameters. Types that can run
	// scripts are never shown.
	Inline func(contentType string) bool
	// Stall is how long a client may read nothing before the connection is closed. 0
	// means one minute; below 0 only the server's own limit applies.
	Stall time.Duration
	// Progress, if not nil, is called after each part of a file was sent, with the bytes
	// sent and the size of this answer, which may be a part of the file. It must not
	// block.
	Progress func(r *http.Request, done, total int64)
	// Logger receives what the client is not told: why opening failed and why a
	// transfer was aborted. Nil logs nothing.
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

// Errors that an authorize function may return, in addition to those of package
// io/fs and of the library.
var (
	// ErrUnauthorized means that nobody is logged in. The answer is 401. Set
	// WWW-Authenticate before, if the client should ask for a password.
	ErrUnauthorized = errors.New("serve: not logged in")
	// ErrForbidden means that the logged-in user has no permission. The answer is
	// 403.
	ErrForbidden = errors.New("serve: forbidden")
)

// Handler serves files. For each request it first calls authorize, which decides
// whether the client may have a file, and returns which one. Only then it calls
// open. Both receive the context of the request. The handler closes the file.
//
// It answers only GET and HEAD. For an error of either function it sends the
// status and nothing else: 401 for [ErrUnauthorized], 403 for [ErrForbidden] and
// [fs.ErrPermission], 404 for [fs.ErrNotExist] and [ErrLink], 410 for
// [ErrExpired], 503 for a key service or store that may recover
// ([kmsencrypted.Retryable]), 500 for all others. To hide which files exist,
// return fs.ErrNotExist instead of ErrForbidden.
func Handler[T any, F File](authorize func(*http.Request) (T, error), open func(context.Context, T) (F, error), o Options) http.Handler {
	return handler(func(r *http.Request) (T, bool, error) {
		which, err := authorize(r)
		return which, false, err
	}, open, o)
}

// handler is like Handler, but authorize also decides whether the browser saves
// the file.
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

// statuses maps errors to answers.
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
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		fail(w, http.StatusServiceUnavailable) // nobody reads it: the client went away
		return
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

// maxRanges is the number of ranges in a request that are answered as ranges. Each of a
// single byte costs the decryption of a chunk, and a request to a store: thousands of them
// fit into a header.
const maxRanges = 32

// withRange changes a Range that [http.ServeContent] answers wrongly. It removes one that
// must be ignored: in a unit that is not known (RFC 9110 section 14.2), for which
// ServeContent answers 416, and of an empty file, of which no part can be named: for a
// suffix ServeContent names one that ends before it begins. It also removes one with too
// many ranges, which a server may ignore.
func withRange(r *http.Request, s *source) *http.Request {
	unit, ranges, _ := strings.Cut(r.Header.Get("Range"), "=")
	if unit == "" {
		return r
	}
	size, err := s.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = s.Seek(0, io.SeekStart)
	}
	known := strings.EqualFold(unit, "bytes")
	if err != nil {
		return r
	}
	changed := *r
	changed.Header = r.Header.Clone()
	if changed.Header.Del("Range"); known && size > 0 && strings.Count(ranges, ",") < maxRanges {
		changed.Header.Set("Range", "bytes="+withoutNothing(ranges, size)) // the unit in small letters
	}
	return &changed
}

// withoutNothing leaves out the ranges of a list that are the last 0 bytes, which cannot
// be satisfied (RFC 9110 section 14.1.2): ServeContent sends a part that ends before it
// begins.
func withoutNothing(ranges string, size int64) string {
	list := strings.Split(ranges, ",")
	some := slices.DeleteFunc(slices.Clone(list), func(r string) bool {
		last, suffix := strings.CutPrefix(strings.TrimSpace(r), "-")
		return suffix && last != "" && strings.Trim(last, "0") == ""
	})
	if len(some) == 0 {
		return strconv.FormatInt(size, 10) + "-" // which is 416 too
	}
	return strings.Join(some, ",")
}

// Content answers a request with a file. It is like [http.ServeContent] with the
// headers and checks of this package. It does not close the file. If reading fails
// during the transfer, it panics with [http.ErrAbortHandler], which aborts the
// connection.
func Content(w http.ResponseWriter, r *http.Request, f File, o Options) {
	o = o.withDefaults()
	setHeaders(w.Header(), f, o)
	source := &source{File: f}
	out := &client{ResponseWriter: w, control: http.NewResponseController(w), stall: o.Stall}
	if o.Progress != nil {
		out.progress = func(done, total int64) { o.Progress(r, done, total) }
	}
	// The name is used only to guess a type, which is already set.
	http.ServeContent(out, withRange(r, source), "", f.ModTime(), source)
	if err := source.failed(); err != nil {
		if r.Context().Err() == nil {
			o.Logger.ErrorContext(r.Context(), "file broken off", "path", r.URL.Path, "error", err)
		}
		panic(http.ErrAbortHandler)
	}
}
