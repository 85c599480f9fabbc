package direct

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
	"github.com/kmsencrypted/kmsencrypted/internal/signed"
)

// Options are the options of [New].
type Options struct {
	// Secrets sign tokens: the first one signs and all are accepted. To change a secret add
	// the new one in front, and remove the old one after Expires. Each must have at least
	// 32 random bytes and no other use. All processes need the same.
	Secrets [][]byte
	// Expires is how long an upload may take. 0 means 24 h. Without a part for
	// [attach.Config.Lease] it ends earlier.
	Expires time.Duration
	// Through lets all parts pass through this program, also if the store takes them from
	// browsers.
	Through bool
	// Logger receives what the client is not told. Nil logs nothing.
	Logger *slog.Logger
}

// Grant is what a client may do.
type Grant[R any] struct {
	// User is who is logged in. An upload can be continued by the same one only.
	User string
	// Row is the record that gets the file, with its key column, as read from the database.
	Row *R
	// Name is the attachment, such as "license".
	Name string
	// Bucket is the bucket for a new upload. Empty means that of [attach.Config].
	Bucket string
	// Replaces, if not nil, is the file that the new one takes the place of.
	Replaces *attach.Attachment
}

// Uploads is the handler of the uploads of a model's records. It is safe for concurrent use.
type Uploads[R any] struct {
	manager   *attach.Manager[R]
	authorize func(*http.Request) (Grant[R], error)
	commit    func(context.Context, Grant[R], *attach.Pending[R]) (*attach.Attachment, error)
	options   Options
	keys      signed.Keys
	now       func() time.Time
}

// New returns a handler. authorize is called first for each request, and decides whether the
// client may attach a file and to what; it returns the errors of [serve.Handler]'s. The
// tenant is that in the context of the request, see [files.WithTenant].
// commit calls [attach.Pending.Commit] in a transaction of the program, possibly with
// changes of its own, and commits it.
//
// New returns [kmsencrypted.ErrConfig] for invalid options or nil functions.
func New[R any](m *attach.Manager[R], authorize func(*http.Request) (Grant[R], error),
	commit func(context.Context, Grant[R], *attach.Pending[R]) (*attach.Attachment, error), o Options) (*Uploads[R], error) {
	if m == nil || missing.Is(authorize) || missing.Is(commit) || o.Expires < 0 {
		return nil, fmt.Errorf("direct: %w: a nil manager or function, or a negative time", kmsencrypted.ErrConfig)
	}
	keys, err := signed.New(tokenUse, o.Secrets...)
	if err != nil {
		return nil, fmt.Errorf("direct: %w", err)
	}
	o.Secrets, o.Expires = nil, cmp.Or(o.Expires, 24*time.Hour)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Uploads[R]{m, authorize, commit, o, keys, time.Now}, nil
}

// begin begins an upload, and returns its token.
func (h *Uploads[R]) begin(ctx context.Context, g Grant[R], o attach.Options) (*attach.PartUpload, files.ObjectKey, string, error) {
	o.Bucket = g.Bucket
	u, key, err := h.manager.BeginParts(ctx, g.Row, g.Name, o)
	if err != nil {
		return nil, key, "", err
	}
	t := token{expires: h.now().Add(h.options.Expires), user: g.User, tenant: files.Tenant(ctx), upload: *u}
	text := h.keys.Sign("", t.append(nil))
	if len(text) > maxToken {
		err = fmt.Errorf("direct: %w: a token of %d bytes: user, tenant and primary key are too long", kmsencrypted.ErrConfig, len(text))
		return nil, key, "", errors.Join(err, h.manager.DiscardParts(ctx, u))
	}
	return u, key, text, nil
}

// verify returns the upload of a token, if it is one of this user, tenant and attachment.
func (h *Uploads[R]) verify(ctx context.Context, g Grant[R], text string) (*attach.PartUpload, error) {
	if len(text) > maxToken {
		return nil, ErrToken
	}
	said, ok := h.keys.Verify(text, "")
	if !ok {
		return nil, ErrToken
	}
	t, ok := parseToken(said)
	if !ok || t.user != g.User || t.tenant != files.Tenant(ctx) || t.upload.Name != g.Name || !h.manager.IsOf(g.Row, &t.upload) {
		return nil, ErrToken
	}
	if !h.now().Before(t.expires) {
		return nil, ErrExpired
	}
	return &t.upload, nil
}

// finish attaches the file. A client that did not get the answer may ask again.
func (h *Uploads[R]) finish(ctx context.Context, g Grant[R], u *attach.PartUpload) (*attach.Attachment, error) {
	p, err := h.manager.FinishParts(ctx, g.Row, u, g.Replaces)
	if errors.Is(err, attach.ErrAbandoned) {
		if a := h.attached(ctx, g, u); a != nil {
			return a, nil
		}
	}
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	return h.commit(ctx, g, p)
}

// attached returns the file that was made of an upload.
func (h *Uploads[R]) attached(ctx context.Context, g Grant[R], u *attach.PartUpload) *attach.Attachment {
	list, err := h.manager.List(ctx, g.Row, g.Name)
	n := slices.IndexFunc(list, func(a *attach.Attachment) bool { return a.Bucket == u.Bucket && a.Object == u.Object })
	if err != nil || n < 0 {
		return nil
	}
	return list[n]
}

//go:embed upload.js
var script string

// Script serves upload.js, a module of JavaScript for pages that upload. It exports upload;
// its comment lists the options.
func Script() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(script))
	})
}
