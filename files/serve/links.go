package serve

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
	"github.com/kmsencrypted/kmsencrypted/internal/signed"
)

// Errors of links that are refused.
var (
	// ErrLink reports a link that was not signed with our key, was changed, or is for
	// another purpose.
	ErrLink = errors.New("serve: invalid link")
	// ErrExpired reports a link that was valid once.
	ErrExpired = errors.New("serve: link has expired")
)

// Link is the content of a signed link.
type Link struct {
	// ID identifies the file for the open function.
	ID string
	// Purpose prevents the use of a link for something else, such as a link to a
	// preview for the original.
	Purpose string
	// Expires is when the link expires, to the second.
	Expires time.Time
	// Download makes browsers save the file.
	Download bool
}

// maxLinkID is the maximum size of an id in bytes: servers and browsers limit the
// length of an address. The longest key of an object in a store fits.
const maxLinkID = 1024

// Links signs and verifies links. Anybody who has a link can fetch the file until
// it expires, without logging in. Links is safe for concurrent use and prints as
// "[redacted]".
type Links struct {
	secret.Redacted
	keys signed.Keys
	now  func() time.Time
}

// NewLinks returns a signer. The first secret signs and all are accepted. To
// change a secret without breaking links, add the new one in front, and remove the
// old one when its last link has expired. Each secret must have at least 32 random
// bytes and no other use. NewLinks returns [kmsencrypted.ErrConfig] for a shorter
// one.
func NewLinks(secrets ...[]byte) (*Links, error) {
	keys, err := signed.New("kmsencrypted/1 links", secrets...)
	if err != nil {
		return nil, fmt.Errorf("serve: links: %w", err)
	}
	return &Links{keys: keys, now: time.Now}, nil
}

// usable returns [kmsencrypted.ErrConfig] for nil or zero Links.
func (l *Links) usable() error {
	if l == nil || l.now == nil {
		return fmt.Errorf("serve: links: %w: the Links were not made by NewLinks", kmsencrypted.ErrConfig)
	}
	return nil
}

// Sign returns the token of a link: letters, digits, "-", "_" and one ".", for a
// segment of a path. Anybody who has the token can read its content. Sign returns
// [kmsencrypted.ErrConfig] if the link has no expiry or one in the past, or an id of
// more than 1024 bytes.
func (l *Links) Sign(link Link) (string, error) {
	if err := l.usable(); err != nil {
		return "", err
	}
	if !link.Expires.After(l.now()) {
		return "", fmt.Errorf("serve: links: %w: link without an expiry in the future", kmsencrypted.ErrConfig)
	}
	if len(link.ID) > maxLinkID {
		return "", fmt.Errorf("serve: links: %w: an id of %d bytes, want at most %d", kmsencrypted.ErrConfig, len(link.ID), maxLinkID)
	}
	return l.keys.Sign(link.Purpose, link.append(nil)), nil
}

// Verify returns the link in a token that was signed for this purpose and has not
// expired. Otherwise it returns [ErrLink] or [ErrExpired].
func (l *Links) Verify(token, purpose string) (Link, error) {
	if err := l.usable(); err != nil {
		return Link{}, err
	}
	said, ok := l.keys.Verify(token, purpose)
	if !ok {
		return Link{}, ErrLink
	}
	link, ok := parseLink(said)
	if !ok {
		return Link{}, ErrLink
	}
	link.Purpose = purpose
	if !l.now().Before(link.Expires) {
		return Link{}, ErrExpired
	}
	return link, nil
}

// The signed part of a token is
//
//	0         1           9
//	+---------+-----------+----+
//	| flags   | expiry    | id |
//	| u8      | u64, unix |    |
//	+---------+-----------+----+
const (
	flagDownload = 1
	linkIDOffset = 9
)

func (link Link) append(dst []byte) []byte {
	flags := byte(0)
	if link.Download {
		flags = flagDownload
	}
	dst = append(dst, flags)
	dst = binary.BigEndian.AppendUint64(dst, uint64(link.Expires.Unix()))
	return append(dst, link.ID...)
}

func parseLink(said []byte) (Link, bool) {
	if len(said) < linkIDOffset || said[0] > flagDownload {
		return Link{}, false
	}
	expires := int64(binary.BigEndian.Uint64(said[1:]))
	return Link{ID: string(said[linkIDOffset:]), Expires: time.Unix(expires, 0), Download: said[0] == flagDownload}, true
}

// LinkHandler serves the files of signed links for one purpose. The token is the
// wildcard {token} of the registered pattern. open receives the id in the token.
//
//	http.Handle("GET /shared/{token}", serve.LinkHandler(links, "share", bucket.Open, serve.Options{}))
func LinkHandler[F File](l *Links, purpose string, open func(context.Context, string) (F, error), o Options) http.Handler {
	return handler(func(r *http.Request) (string, bool, error) {
		link, err := l.Verify(r.PathValue("token"), purpose)
		return link.ID, link.Download, err
	}, open, o)
}
