package gocloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"path"
	"sync"
	"time"

	"gocloud.dev/blob/driver"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// attempts is the number of attempts while other writers are faster.
const attempts = 5

// object is an open object.
type object struct {
	card
	source *source
	plain  *files.ReaderAt
	name   string // of the object

	users int // guarded by readers.mu
}

// open reads the first n bytes of an object, its sidecar and its last chunk. The
// caller wipes the key.
func (b *Bucket) open(ctx context.Context, key string, n int64, before func(func(any) bool) error) (*object, error) {
	if err := b.check(key); err != nil {
		return nil, err
	}
	for range attempts {
		s, err := newSource(ctx, b.inner, key, n, before)
		if err != nil {
			return nil, err
		}
		id, err := files.ReadID(bytes.NewReader(s.head.data))
		if err != nil {
			return nil, err
		}
		o, err := b.openSource(s, id)
		if err == nil {
			return o, nil
		}
		// A writer deletes the sidecar of the object that it overwrote.
		if !errors.Is(err, ErrNoKey) && !errors.Is(err, ErrReplaced) {
			return nil, s.explain(err)
		}
		switch now, nowErr := b.fileID(ctx, key); {
		case nowErr != nil:
			return nil, nowErr
		case now == id && errors.Is(err, ErrNoKey):
			return nil, err
		}
	}
	return nil, errRaced
}

func (b *Bucket) openSource(s *source, id files.ID) (*object, error) {
	tail := make(chan error, 1)
	go func() { tail <- s.fetchTail() }()
	o := &object{source: s, name: s.key}
	text, err := b.getSidecar(s.ctx, s.key, id)
	if err == nil {
		o.card, err = b.decryptCard(s.ctx, s.key, text, id)
	}
	if tailErr := <-tail; err == nil {
		err = tailErr
	}
	if err == nil {
		o.plain, err = files.NewReaderAt(s.ctx, s, s.size, o.card.key)
	}
	if err != nil {
		o.card.key.Wipe()
		return nil, err
	}
	return o, nil
}

// explain distinguishes a damaged object from one that was replaced by another of
// the same size within one tick of the store's clock.
func (s *source) explain(err error) error {
	if !errors.Is(err, kmsencrypted.ErrDecrypt) || len(s.head.data) < files.HeaderSize {
		return err
	}
	now := make([]byte, files.HeaderSize)
	if s.fetch(now, 0) == nil && !bytes.Equal(now, s.head.data[:files.HeaderSize]) {
		return ErrReplaced
	}
	return err
}

// ReadAt reads the file.
func (o *object) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.plain.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = o.source.explain(err)
	}
	return n, err
}

// download decrypts the whole file in one request, on several cores.
func (o *object) download(ctx context.Context, w io.Writer) error {
	st := &stream{source: o.source, end: o.source.size}
	defer st.Close()
	r, err := files.NewReader(ctx, st, o.card.key, files.Options{})
	if err == nil {
		_, err = r.WriteTo(w)
	}
	return o.source.explain(err)
}

// readers are the objects that readers of package blob have open. A reader that
// seeks makes a new reader of the driver with the same options. It gets the same
// object, so that it reads one version and makes one call to the key service.
type readers struct {
	mu   sync.Mutex
	open map[readerID]*object
}

type readerID struct {
	options *driver.ReaderOptions
	key     string
}

func (r *readers) get(id readerID) *object {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.open[id]
	if o != nil {
		o.users++
	}
	return o
}

func (r *readers) put(id readerID, o *object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = make(map[readerID]*object)
	}
	o.users = 1
	r.open[id] = o
}

func (r *readers) release(id readerID, o *object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.users--; o.users == 0 {
		o.card.key.Wipe()
		if r.open[id] == o {
			delete(r.open, id)
		}
	}
}

// File is an open object: an [io.ReadSeekCloser] for one goroutine, and an
// [io.ReaderAt] for any number of them. Once the context it was opened with is done,
// it fails with its error. Sequential reads read ahead; ReadAt at other offsets
// fetches the chunks that it needs. A File holds at most about 3 MiB. Package
// files/serve accepts it.
type File struct {
	reader *io.SectionReader
	object *object
}

// Open opens an object with one call to the key service. The caller closes the file.
// Open returns [fs.ErrNotExist] for a missing object. The other errors are those of
// the store, [ErrNoKey], [ErrReserved], and those of [kmsencrypted.Box.Decrypt] and
// [files.NewReaderAt]. A read may also return [ErrReplaced].
func (b *Bucket) Open(ctx context.Context, key string) (*File, error) {
	o, err := b.open(ctx, key, oneChunk, nil)
	if isNotFound(err) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return nil, located("open", key, err)
	}
	o.card.key.Wipe() // the cipher stays
	return &File{reader: io.NewSectionReader(o, 0, o.plain.Size()), object: o}, nil
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero File.
func (f *File) usable() error {
	if f == nil || f.object == nil {
		return fmt.Errorf("gocloud: %w: the File was not opened by a Bucket", kmsencrypted.ErrConfig)
	}
	return nil
}

// Read implements [io.Reader].
func (f *File) Read(p []byte) (int, error) {
	if err := f.usable(); err != nil {
		return 0, err
	}
	return f.reader.Read(p)
}

// ReadAt implements [io.ReaderAt].
func (f *File) ReadAt(p []byte, offset int64) (int, error) {
	if err := f.usable(); err != nil {
		return 0, err
	}
	return f.reader.ReadAt(p, offset)
}

// Seek implements [io.Seeker].
func (f *File) Seek(offset int64, whence int) (int64, error) {
	if err := f.usable(); err != nil {
		return 0, err
	}
	return f.reader.Seek(offset, whence)
}

// Size returns the size of the file in bytes, which is authenticated.
func (f *File) Size() int64 {
	if f.usable() != nil {
		return 0
	}
	return f.reader.Size()
}

// Name returns the file name of the content disposition that the object was written
// with, or else the last part of its key.
func (f *File) Name() string {
	if f.usable() != nil {
		return ""
	}
	_, params, err := mime.ParseMediaType(f.object.attributes.ContentDisposition)
	if name := params["filename"]; err == nil && name != "" {
		return name
	}
	return path.Base(f.object.name)
}

// ContentType returns the content type that the object was written with, or
// application/octet-stream if there was none.
func (f *File) ContentType() string {
	if f.usable() != nil {
		return ""
	}
	return f.object.attributes.contentType()
}

// ModTime returns the time at which the object was written, according to the store.
func (f *File) ModTime() time.Time {
	if f.usable() != nil {
		return time.Time{}
	}
	return f.object.source.modTime
}

// ID returns the file id, which changes with each write.
func (f *File) ID() files.ID {
	if f.usable() != nil {
		return files.ID{}
	}
	return f.object.id
}

// ETag returns the file id in quotes, a strong entity tag.
func (f *File) ETag() string {
	if f.usable() != nil {
		return ""
	}
	return etag(f.object.id)
}

// Metadata returns the metadata that the object was written with. The caller must
// not change it.
func (f *File) Metadata() map[string]string {
	if f.usable() != nil {
		return nil
	}
	return f.object.attributes.Metadata
}

// Close releases what was read ahead.
func (f *File) Close() error {
	if err := f.usable(); err != nil {
		return err
	}
	f.object.source.forget()
	return nil
}

func (s *source) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head, s.tail, s.ahead = segment{}, segment{}, segment{}
	s.limit = 0
}

func etag(id files.ID) string { return fmt.Sprintf("%q", id) }
