package gocloud

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"gocloud.dev/blob"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// The name of a sidecar is the name of its object, ".", the file id and ".kek". The
// id is random, so no two writers write the same sidecar.
const (
	sidecarEnd    = ".kek"
	sidecarIDSize = 2 * len(files.ID{})
	sidecarSuffix = 1 + sidecarIDSize + len(sidecarEnd)
	// sidecarDigits are the characters of the suffix.
	sidecarDigits = ".0123456789abcdefk"
	// namedPrefix begins the text of a sidecar whose context has the bucket's name.
	namedPrefix = "kek2:"
	// maxSidecar limits how many bytes of a sidecar are read.
	maxSidecar = 1 << 20
)

func sidecarName(key string, id files.ID) string { return key + "." + id.String() + sidecarEnd }

// splitSidecar is the inverse of sidecarName.
func splitSidecar(name string) (key string, id files.ID, ok bool) {
	if len(name) < sidecarSuffix || !strings.HasSuffix(name, sidecarEnd) {
		return "", id, false
	}
	key, suffix := name[:len(name)-sidecarSuffix], name[len(name)-sidecarSuffix:]
	id, err := files.ParseID(suffix[1:][:sidecarIDSize])
	if err != nil || sidecarName(key, id) != name {
		return "", id, false
	}
	return key, id, true
}

// maxName is the longest name of an object in S3, Google Cloud Storage and Azure.
const maxName = 1024

// longPart is the length of the last part of a key from which a store may refuse the
// name of the sidecar, which is longer. File systems take 255 bytes.
const longPart = 128

// checkNewKey checks the key of an object that is to be written.
func checkNewKey(key string) error {
	if len(key) > maxName-sidecarSuffix {
		return fmt.Errorf("gocloud: %w: a key of %d bytes, want at most %d, because the name of its sidecar is longer", kmsencrypted.ErrTooLarge, len(key), maxName-sidecarSuffix)
	}
	return checkKey(key)
}

// checkPrefix checks a prefix of keys that is to be listed. A folder as a store would leave
// itself, and its driver panics.
func checkPrefix(prefix string) error {
	if slices.Contains(strings.Split(prefix, "/"), "..") {
		return fmt.Errorf("gocloud: prefix %q: %w: %w", prefix, kmsencrypted.ErrConfig, fs.ErrInvalid)
	}
	return nil
}

func checkKey(key string) error {
	if _, _, reserved := splitSidecar(key); reserved {
		return ErrReserved
	}
	return nil
}

// card is the content of a sidecar (spec/buckets.md section 2). Its bytes are
//
//	0         1          17              49
//	+---------+----------+---------------+------------+
//	| version | file id  | file key      | attributes |
//	| 01      | 16       | 32            | JSON       |
//	+---------+----------+---------------+------------+
type card struct {
	id         files.ID
	key        files.Key
	attributes attributes
}

const (
	cardVersion = 1
	cardIDEnd   = 1 + len(files.ID{})
	cardKeyEnd  = cardIDEnd + files.KeySize
)

// attributes are the attributes of package blob that belong to the file, not to the
// object in the store.
type attributes struct {
	ContentType        string            `json:"type,omitempty"`
	CacheControl       string            `json:"cache,omitempty"`
	ContentDisposition string            `json:"disposition,omitempty"`
	ContentEncoding    string            `json:"encoding,omitempty"`
	ContentLanguage    string            `json:"language,omitempty"`
	Metadata           map[string]string `json:"metadata,omitempty"`
	MD5                []byte            `json:"md5,omitempty"`
}

// contentType returns the content type, which is never empty, as package blob
// requires.
func (a attributes) contentType() string {
	if a.ContentType == "" {
		return storedContentType
	}
	return a.ContentType
}

// encryptCard returns the text of a sidecar.
func (b *Bucket) encryptCard(ctx context.Context, key string, c card) (string, error) {
	raw, err := c.key.Raw()
	if err != nil {
		return "", err
	}
	defer clear(raw)
	described, err := json.Marshal(c.attributes)
	if err != nil {
		return "", err
	}
	plaintext := make([]byte, 0, cardKeyEnd+len(described))
	defer clear(plaintext[:cap(plaintext)])
	plaintext = append(append(append(append(plaintext, cardVersion), c.id[:]...), raw...), described...)
	text, err := b.box.Encrypt(ctx, plaintext, b.options.Context(b.name, key))
	if err == nil && len(namedPrefix)+len(text) > maxSidecar { // no reader would take it
		err = fmt.Errorf("gocloud: attributes of %d bytes: %w", len(described), kmsencrypted.ErrTooLarge)
	}
	if err != nil {
		return "", err
	}
	return namedPrefix + text, nil
}

// named splits the text of a sidecar into the text of the Box and whether its context
// has the name of a bucket.
func named(text string) (secret string, ok bool) { return strings.CutPrefix(text, namedPrefix) }

// unnamed is how the sidecars of older releases begin.
var unnamed = regexp.MustCompile(`^v[0-9]+:`)

// decryptCard decrypts the text of a sidecar. The caller wipes the key.
func (b *Bucket) decryptCard(ctx context.Context, key, text string, id files.ID) (card, error) {
	secret, ok := named(text)
	ec := b.options.Context(b.name, key)
	if !ok {
		if !unnamed.MatchString(text) {
			return card{}, fmt.Errorf("gocloud: sidecar: %w", kmsencrypted.ErrMalformed)
		}
		if b.options.Unnamed == nil {
			return card{}, fmt.Errorf("gocloud: sidecar of an older release, without the name of a bucket: see Options.Unnamed: %w", kmsencrypted.ErrBinding)
		}
		ec = b.options.Unnamed(key)
	}
	plaintext, err := b.box.Decrypt(ctx, secret, ec)
	if err != nil {
		return card{}, err
	}
	defer clear(plaintext)
	if len(plaintext) < cardKeyEnd || plaintext[0] != cardVersion {
		return card{}, fmt.Errorf("gocloud: sidecar: %w", kmsencrypted.ErrMalformed)
	}
	c := card{id: files.ID(plaintext[1:cardIDEnd])}
	if c.id != id { // renamed, to pass for the key of another version
		return card{}, fmt.Errorf("gocloud: sidecar of another object: %w", kmsencrypted.ErrBinding)
	}
	if json.Unmarshal(plaintext[cardKeyEnd:], &c.attributes) != nil {
		return card{}, fmt.Errorf("gocloud: sidecar: %w", kmsencrypted.ErrMalformed)
	}
	c.key, err = files.KeyFrom(plaintext[cardIDEnd:cardKeyEnd])
	return c, err
}

func (b *Bucket) putSidecar(ctx context.Context, key string, id files.ID, text string) error {
	return b.inner.WriteAll(ctx, sidecarName(key, id), []byte(text), &blob.WriterOptions{ContentType: "text/plain"})
}

// getSidecar returns the text of a sidecar. If there is none, it returns [ErrNoKey]
// instead of the store's error, which would look like a missing object.
func (b *Bucket) getSidecar(ctx context.Context, key string, id files.ID) (string, error) {
	r, err := b.inner.NewRangeReader(ctx, sidecarName(key, id), 0, maxSidecar+1, nil)
	if isNotFound(err) {
		return "", ErrNoKey
	} else if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	switch {
	case err != nil:
		return "", err
	case len(text) > maxSidecar:
		return "", fmt.Errorf("gocloud: sidecar: %w", kmsencrypted.ErrTooLarge)
	}
	return string(text), nil
}

// dropSidecar deletes the sidecar of an object that no longer exists. The id is
// never used again, so nobody needs it. If it cannot be deleted, [Bucket.Prune] does
// it later.
func (b *Bucket) dropSidecar(ctx context.Context, key string, id files.ID) {
	if !id.IsZero() {
		b.inner.Delete(ctx, sidecarName(key, id))
	}
}

// fileID reads the id of the object that is stored at key now.
func (b *Bucket) fileID(ctx context.Context, key string) (files.ID, error) {
	r, err := b.inner.NewRangeReader(ctx, key, 0, files.HeaderSize, nil)
	if err != nil {
		return files.ID{}, err
	}
	defer r.Close()
	return files.ReadID(r)
}
