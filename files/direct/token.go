package direct

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
)

// Errors of tokens that are refused.
var (
	// ErrToken reports a token that was not signed with our key, was changed, or belongs to
	// another user, tenant, record or attachment.
	ErrToken = errors.New("direct: invalid token of an upload")
	// ErrExpired reports a token that was valid once.
	ErrExpired = errors.New("direct: the token of the upload has expired")
)

// token is what a client brings back with each request of an upload. It is signed
// (spec/files.md section 5.6):
//
//	0         1         9      17          25
//	+---------+---------+------+-----------+-----+
//	| version | expires | size | part size | ... |
//	| 01      | u64     | u64  | u64       |     |
//	+---------+---------+------+-----------+-----+
type token struct {
	expires      time.Time // to the second
	user, tenant string
	upload       attach.PartUpload
}

const (
	tokenUse     = "kmsencrypted/1 uploads"
	tokenVersion = 1
	tokenFixed   = 25
	// maxToken is the limit of a token in bytes: servers limit the headers of a request.
	maxToken = 4096
)

// texts are the texts after the ids.
func (t *token) texts() []*string {
	u := &t.upload
	return []*string{&u.Name, &u.Bucket, &u.Object, &u.FileName, &u.ContentType}
}

func (t token) append(dst []byte) []byte {
	dst = append(dst, tokenVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.expires.Unix()))
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.upload.Size))
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.upload.PartSize))
	dst = append(dst, canon.Strings(t.user, t.tenant, t.upload.Table)...)
	dst = canon.AppendCount(dst, len(t.upload.RecordID))
	dst = append(dst, canon.Strings(t.upload.RecordID...)...)
	for _, text := range t.texts() {
		dst = canon.AppendString(dst, *text)
	}
	return dst
}

// parseToken is the inverse of append. It returns false for what append does not write.
func parseToken(said []byte) (t token, ok bool) {
	if len(said) < tokenFixed || said[0] != tokenVersion {
		return token{}, false
	}
	t.expires = time.Unix(int64(binary.BigEndian.Uint64(said[1:])), 0)
	t.upload.Size = int64(binary.BigEndian.Uint64(said[9:]))
	t.upload.PartSize = int64(binary.BigEndian.Uint64(said[17:]))
	r := items{rest: said[tokenFixed:]}
	for _, text := range []*string{&t.user, &t.tenant, &t.upload.Table} {
		*text = r.text()
	}
	for n := r.count(); n > 0 && !r.failed; n-- {
		t.upload.RecordID = append(t.upload.RecordID, r.text())
	}
	for _, text := range t.texts() {
		*text = r.text()
	}
	if r.failed || len(r.rest) > 0 || t.upload.Size < 0 || t.upload.PartSize < 1 || t.upload.RecordID == nil {
		return token{}, false
	}
	return t, true
}

// items reads what package canon writes.
type items struct {
	rest   []byte
	failed bool
}

func (r *items) count() uint32 {
	if len(r.rest) < 4 {
		r.failed = true
		return 0
	}
	n := binary.BigEndian.Uint32(r.rest)
	r.rest = r.rest[4:]
	return n
}

func (r *items) text() string {
	n := r.count()
	if r.failed || uint64(n) > uint64(len(r.rest)) {
		r.failed = true
		return ""
	}
	text := string(r.rest[:n])
	r.rest = r.rest[n:]
	return text
}
