package gocloud

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"

	"gocloud.dev/blob/driver"

	"github.com/kmsencrypted/kmsencrypted/files"
)

// Attributes reads the store's attributes, the header and the sidecar.
func (d driverBucket) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	if err := d.check(key); err != nil {
		return nil, err
	}
	for range attempts {
		stored, err := d.inner.Attributes(ctx, key)
		if err != nil {
			return nil, err
		}
		id, err := d.fileID(ctx, key)
		if err != nil {
			return nil, err
		}
		text, err := d.getSidecar(ctx, key, id)
		if errors.Is(err, ErrNoKey) {
			if now, nowErr := d.fileID(ctx, key); nowErr != nil || now != id {
				continue // overwritten meanwhile
			}
		}
		if err != nil {
			return nil, err
		}
		c, err := d.decryptCard(ctx, key, text, id)
		if err != nil {
			return nil, err
		}
		c.key.Wipe()
		size, err := files.OpenedSize(stored.Size)
		if err != nil {
			return nil, err
		}
		a := c.attributes
		return &driver.Attributes{
			CacheControl:       a.CacheControl,
			ContentDisposition: a.ContentDisposition,
			ContentEncoding:    a.ContentEncoding,
			ContentLanguage:    a.ContentLanguage,
			ContentType:        a.contentType(),
			Metadata:           a.Metadata,
			CreateTime:         stored.CreateTime,
			ModTime:            stored.ModTime,
			Size:               size,
			MD5:                a.MD5,
			ETag:               etag(id),
			AsFunc:             stored.As,
		}, nil
	}
	return nil, errRaced
}

// reader reads a range of a file sequentially.
type reader struct {
	ctx     context.Context
	readers *readers
	id      readerID
	object  *object
	plain   io.Reader
	attrs   driver.ReaderAttributes
	closed  bool
}

// smallReads is the size in bytes of the buffer that keeps small reads from
// decrypting the same chunk repeatedly. Larger reads bypass it.
const smallReads = 64 << 10

func (d driverBucket) NewRangeReader(ctx context.Context, key string, offset, length int64, o *driver.ReaderOptions) (driver.Reader, error) {
	id := readerID{o, key}
	object := d.readers.get(id)
	if object == nil {
		first := int64(oneChunk)
		if offset == 0 {
			first = minAhead
		}
		var err error
		if object, err = d.open(ctx, key, first, o.BeforeRead); err != nil {
			return nil, err
		}
		d.readers.put(id, object)
	}
	if length < 0 {
		length = math.MaxInt64 - offset
	}
	size := object.plain.Size()
	length = max(min(length, size-offset), 0)
	object.source.bound(offset + length)
	return &reader{
		ctx: ctx, readers: &d.readers, id: id, object: object,
		plain: bufio.NewReaderSize(io.NewSectionReader(object, offset, length), smallReads),
		attrs: driver.ReaderAttributes{ContentType: object.attributes.contentType(), ModTime: object.source.modTime, Size: size},
	}, nil
}

// bound stops read-ahead beyond what the first end bytes of the file need.
func (s *source) bound(end int64) {
	const header, sealedChunk = oneChunk - files.ChunkSize - 16, files.ChunkSize + 16
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = min(s.size, header+(end+files.ChunkSize-1)/files.ChunkSize*sealedChunk)
}

func (r *reader) Read(p []byte) (int, error) { return r.plain.Read(p) }

// Download reads the whole file at once.
func (r *reader) Download(w io.Writer) error { return r.object.download(r.ctx, w) }

func (r *reader) Attributes() *driver.ReaderAttributes { return &r.attrs }

// As calls As of the store's reader of the first bytes.
func (r *reader) As(i any) bool { return r.object.source.asFunc(i) }

func (r *reader) Close() error {
	if !r.closed {
		r.closed = true
		r.readers.release(r.id, r.object)
	}
	return nil
}
