package attach

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
)

// card is the plaintext of a recovery wrap: a file key and the row that it belongs to
// (spec/files.md section 4.2). Its bytes are
//
//	0         1         17         49
//	+---------+---------+----------+-------+
//	| version | file id | file key | row   |
//	| 01      | 16      | 32       | items |
//	+---------+---------+----------+-------+
type card struct {
	a       Attachment // with parentCreated
	key     files.Key
	written int64  // when the wrap was made
	record  string // the record key, which is not in the bytes but in the text and the context
}

const (
	cardVersion = 1
	cardIDEnd   = 1 + len(files.ID{})
	cardKeyEnd  = cardIDEnd + files.KeySize
	maxCard     = 8 << 10
)

func now() int64 { return time.Now().UnixMilli() }

func malformedCard() error {
	return fmt.Errorf("attach: recovery wrap: %w", kmsencrypted.ErrMalformed)
}

// append appends the bytes of a card.
func (c card) append(out []byte) ([]byte, error) {
	raw, err := c.key.Raw()
	if err != nil {
		return out, err
	}
	defer clear(raw)
	out = append(append(append(out, cardVersion), c.a.File[:]...), raw...)
	out = canon.AppendString(out, c.a.Table)
	out = canon.AppendCount(out, len(c.a.RecordID))
	for _, id := range c.a.RecordID {
		out = canon.AppendString(out, id)
	}
	for _, text := range c.texts() {
		out = canon.AppendString(out, *text)
	}
	out = canon.AppendString(out, string(c.a.Format))
	for _, number := range []int64{c.a.Size, c.a.ObjectSize, c.a.Created.UnixMilli(), c.a.parentCreated, c.written} {
		out = binary.BigEndian.AppendUint64(out, uint64(number))
	}
	if len(out) > maxCard {
		return out, fmt.Errorf("attach: recovery wrap: %w: a row of %d bytes", kmsencrypted.ErrTooLarge, len(out))
	}
	return out, nil
}

// texts are the texts of the row in their order.
func (c *card) texts() []*string {
	return []*string{&c.a.Name, &c.a.Variant, &c.a.ID, &c.a.Parent, &c.a.Bucket, &c.a.Object, &c.a.FileName, &c.a.ContentType}
}

// parseCard is the inverse of append: no other bytes make the same card. The caller
// wipes the key.
func parseCard(data []byte) (card, error) {
	var c card
	if len(data) < cardKeyEnd || len(data) > maxCard || data[0] != cardVersion {
		return card{}, malformedCard()
	}
	r := reader{data[cardKeyEnd:], true}
	c.a.File = files.ID(data[1:cardIDEnd])
	c.a.Table = r.text()
	for range r.count() {
		c.a.RecordID = append(c.a.RecordID, r.text())
	}
	for _, text := range c.texts() {
		*text = r.text()
	}
	c.a.Format = files.Format(r.text())
	c.a.Size, c.a.ObjectSize = r.number(), r.number()
	c.a.Created = time.UnixMilli(r.number()).UTC()
	c.a.parentCreated, c.written = r.number(), r.number()
	if !r.ok || len(r.rest) > 0 || !c.possible() {
		return card{}, malformedCard()
	}
	var err error
	c.key, err = files.KeyFrom(data[cardIDEnd:cardKeyEnd])
	return c, err
}

// possible reports whether a row may have these values.
func (c *card) possible() bool {
	a := &c.a
	switch {
	case a.Table == "", len(a.RecordID) == 0, a.Name == "", a.ID == "", a.Bucket == "", a.Object == "", a.File.IsZero():
		return false
	case strings.Contains(a.Name+a.Variant, "/"), (a.Variant == "") != (a.Parent == ""), a.Parent == "" && a.parentCreated != 0:
		return false
	}
	return a.Format == files.Native && a.Size >= 0 && a.ObjectSize >= 0
}

// reader takes items off the front of some bytes. ok is false after the first that is
// not there.
type reader struct {
	rest []byte
	ok   bool
}

func (r *reader) take(n int) []byte {
	if !r.ok || n < 0 || n > len(r.rest) {
		r.ok = false
		return nil
	}
	var taken []byte
	taken, r.rest = r.rest[:n], r.rest[n:]
	return taken
}

func (r *reader) length() int {
	four := r.take(4)
	if four == nil {
		return 0
	}
	return int(min(binary.BigEndian.Uint32(four), 1<<30))
}

// count reads the number of items that follow; each has at least four bytes.
func (r *reader) count() int {
	n := r.length()
	if n > len(r.rest)/4 {
		r.ok = false
		return 0
	}
	return n
}

func (r *reader) text() string { return string(r.take(r.length())) }

func (r *reader) number() int64 {
	eight := r.take(8)
	if eight == nil {
		return 0
	}
	return int64(binary.BigEndian.Uint64(eight))
}
