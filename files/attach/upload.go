package attach

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
)

// Options describe a file to upload. The zero value is a file without a name.
type Options struct {
	// Name is the file's name as sent by the client. [CleanName] is applied to it.
	Name string
	// ContentType is the type as sent by the client. It counts only if the first bytes
	// of the file do not determine the type.
	ContentType string
	// Bucket is the bucket for this file, one of [Config.Buckets]. Empty means the one
	// of [Config].
	Bucket string
	// Size is the expected size of the file in bytes; a source of another size fails
	// with [ErrSize]. 0 means unknown.
	Size int64
	// Progress, if not nil, receives the number of bytes done and the total, which is
	// 0 if unknown.
	Progress func(done, total int64)
}

// tries is the number of attempts for an operation that can be repeated.
const tries = 3

// Upload encrypts src into a new object, in constant memory, and returns when the
// object is durable. The file is not attached until [Pending.Commit]; without it,
// [Manager.Sweep] deletes the object. row needs no primary key before Commit.
//
// If the record has a data key and this process may decrypt, Upload unwraps it with
// one call, so that Commit needs none. If the store fails, Upload starts again with
// a source that can seek, unless the store is full.
//
// The errors are those of src, of the store and of [field.Adapter.DataKeys]. Upload
// returns [ErrSize] for a source of the wrong size, [ErrAbandoned] if the source
// made no progress for longer than [Config.Lease], and [kmsencrypted.ErrConfig] for
// an unknown name or bucket, a nil row or a nil src.
func (m *Manager[R]) Upload(ctx context.Context, row *R, name string, src io.Reader, o Options) (*Pending[R], error) {
	if err := m.usable(row, src); err != nil {
		return nil, err
	}
	if err := m.named(name); err != nil {
		return nil, err
	}
	if err := m.config.checkSize(o); err != nil {
		return nil, err
	}
	p, err := m.prepare(ctx, row, &Attachment{ID: newID(), Name: name}, o)
	if err != nil {
		return nil, err
	}
	return p.or(ctx, m.upload(ctx, p, src, o), p.protectEarly)
}

// or returns p, or nothing with an error. It calls then if there is no error yet.
func (p *Pending[R]) or(ctx context.Context, err error, then ...func(context.Context) error) (*Pending[R], error) {
	for _, f := range then {
		if err == nil {
			err = f(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Replace uploads a file that takes the place of another. After Commit the
// attachment has the same ID, and what was derived from the old file is deleted.
func (m *Manager[R]) Replace(ctx context.Context, row *R, a *Attachment, src io.Reader, o Options) (*Pending[R], error) {
	if err := m.usable(row, a, src); err != nil {
		return nil, err
	}
	if err := m.config.checkSize(o); err != nil {
		return nil, err
	}
	old := *a
	p, err := m.prepare(ctx, row, &Attachment{ID: a.ID, Name: a.Name, Variant: a.Variant, Parent: a.Parent}, o)
	if err != nil {
		return nil, err
	}
	p.old = &old
	return p.or(ctx, m.upload(ctx, p, src, o), p.protectEarly)
}

func newID() string { return strings.ToLower(rand.Text()) }

// checkSize checks the declared size of a new file. A file that exists may be larger, and
// can be encrypted anew, because the limit may have been lowered since.
func (c Config) checkSize(o Options) error {
	if c.MaxSize > 0 && o.Size > c.MaxSize {
		return ErrSize
	}
	return nil
}

// prepare begins a Pending.
func (m *Manager[R]) prepare(ctx context.Context, row *R, a *Attachment, o Options) (*Pending[R], error) {
	if o.Size < 0 {
		return nil, configError("a file of %d bytes", o.Size)
	}
	var err error
	if a.Bucket, err = m.config.bucketFor(ctx, a.Name, o); err != nil {
		return nil, err
	}
	a.Table, a.Format = m.model.BoundTable(), files.Native
	a.FileName = CleanName(o.Name)
	p := &Pending[R]{manager: m, row: row, a: a}
	return p.or(ctx, p.openDataKey(ctx))
}

// openDataKey unwraps the data key of a record that was read, before Commit.
func (p *Pending[R]) openDataKey(ctx context.Context) error {
	m := p.manager
	column, err := keyText(m.model.Key(m.key, p.row))
	if err != nil || column == "" || m.model.ID(p.row) == nil {
		return nil // not read, or NULL: Commit handles both
	}
	keys, err := m.model.DataKeys(ctx, m.key, p.row)
	switch {
	case err == nil:
		p.dataKey, p.column = keys[0], column
	case errors.Is(err, kmsencrypted.ErrDenied):
		p.denied = true
	default:
		return err
	}
	return nil
}

// keyText returns the text of a key column, or "" for NULL.
func keyText(key *field.Key) (string, error) {
	switch text, err := key.Value(); text := text.(type) {
	case string:
		return text, err
	case []byte: // some drivers return text as bytes
		return string(text), err
	default:
		return "", err
	}
}

// upload writes a source to an object. A failed attempt leaves no object.
func (m *Manager[R]) upload(ctx context.Context, p *Pending[R], src io.Reader, o Options) error {
	seeker, _ := src.(io.Seeker)
	var start int64
	if seeker != nil {
		var err error
		if start, err = seeker.Seek(0, io.SeekCurrent); err != nil {
			seeker = nil // a pipe has the method, but cannot seek
		}
	}
	for try := 1; ; try++ {
		source := &source{Reader: src, limit: m.limit(o)}
		err := m.put(ctx, p, o, func(w *sealer) error {
			if err := w.fill(source); err != nil {
				return err
			}
			return source.check(o)
		})
		if err == nil || try == tries || seeker == nil || source.failed || ctx.Err() != nil || errors.Is(err, ErrAbandoned) || isFull(err) {
			if err != nil {
				p.wipe()
			}
			return err
		}
		if _, err := seeker.Seek(start, io.SeekStart); err != nil {
			return errors.Join(err, p.wipe())
		}
	}
}

// isFull reports a store that has no room, which it will not have at once.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// limit returns the size in bytes of the largest file accepted.
func (m *Manager[R]) limit(o Options) int64 {
	switch {
	case o.Size > 0:
		return o.Size
	case m.config.MaxSize > 0:
		return m.config.MaxSize
	}
	return files.MaxSize
}

// put writes the object of a Pending under a new name and a new key.
func (m *Manager[R]) put(ctx context.Context, p *Pending[R], o Options, fill func(*sealer) error) error {
	key, object := files.NewKey(), newObjectName()
	s := &sealer{declared: o.ContentType}
	var done atomic.Int64
	err := m.store(ctx, p.a.Bucket, object, &done, func(ctx context.Context, w io.Writer) error {
		counted := &counter{w: w}
		sealed, err := files.NewWriter(ctx, counted, key, files.Options{Workers: m.config.Workers, Progress: func(n int64) {
			done.Store(n)
			if o.Progress != nil {
				o.Progress(n, o.Size)
			}
		}})
		if err != nil {
			return err
		}
		s.w = sealed
		if err := fill(s); err != nil {
			return err
		}
		if err := s.close(); err != nil {
			return err
		}
		p.a.File, p.a.Size, p.a.ObjectSize, p.a.ContentType = sealed.ID(), s.n, counted.n, s.contentType
		return nil
	})
	if err != nil {
		key.Wipe()
		return err
	}
	p.a.Object, p.a.Created, p.key = object, time.Now().UTC().Truncate(time.Millisecond), key
	return nil
}

// source is the file being uploaded.
type source struct {
	io.Reader
	limit, n int64
	failed   bool // whether the source failed, not the store
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.n += int64(max(n, 0))
	if s.n > s.limit {
		s.failed = true
		return n, ErrSize
	}
	if err != nil && err != io.EOF {
		s.failed = true
	}
	return n, err
}

// check compares the size of the file that was read with the declared one.
func (s *source) check(o Options) error {
	if o.Size > 0 && s.n != o.Size {
		s.failed = true
		return ErrSize
	}
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// sealer writes a file. It determines the content type from the first bytes before
// it encrypts them.
type sealer struct {
	w           *files.Writer
	declared    string
	head        []byte
	contentType string // empty until the first bytes were seen
	n           int64
}

// Write implements io.Writer, for derived files.
func (s *sealer) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	if s.contentType == "" {
		s.head = append(s.head, p...)
		if len(s.head) < sniffLen {
			return len(p), nil
		}
		return len(p), s.sniffed()
	}
	return s.w.Write(p)
}

func (s *sealer) sniffed() error {
	s.contentType = contentType(s.head[:min(len(s.head), sniffLen)], s.declared)
	_, err := s.w.Write(s.head)
	clear(s.head)
	s.head = nil
	return err
}

// fill writes everything from src, using several cores.
func (s *sealer) fill(src io.Reader) error {
	s.head = make([]byte, sniffLen)
	n, err := fullio.Read(src, s.head)
	s.head, s.n = s.head[:n], int64(n)
	if err != nil && err != io.EOF {
		return err
	}
	if err := s.sniffed(); err != nil || n < sniffLen {
		return err
	}
	more, err := s.w.ReadFrom(src)
	s.n += more
	return err
}

func (s *sealer) close() error {
	if s.contentType == "" {
		if err := s.sniffed(); err != nil {
			return err
		}
	}
	return s.w.Close()
}
