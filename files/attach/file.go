package attach

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files"
)

// File is an open attached file: an [io.ReadSeekCloser] and an [io.ReaderAt] of its
// plaintext. It is safe for concurrent use, although Read and Seek of two goroutines share
// one offset. net/http reads several ranges in a goroutine of its own, which may outlive
// the handler: Close waits for a Read that is under way, and what comes later returns
// [io/fs.ErrClosed].
type File struct {
	ctx        context.Context // Read and ReadAt end with it
	attachment Attachment
	size       int64

	mu     sync.Mutex // held by Read, Seek and Close, and not while ReadAt reads
	at     io.ReaderAt
	object io.Closer
	offset int64
	ahead  []byte // decrypted and not read yet, from offset on
	buffer []byte
}

func newFile(ctx context.Context, a Attachment, at io.ReaderAt, size int64, object io.Closer) *File {
	return &File{ctx: ctx, attachment: a, size: size, at: at, object: object}
}

// Name returns the name of the file, cleaned by [CleanName].
func (f *File) Name() string { return f.Attachment().FileName }

// ContentType returns the type of the file, as determined by its first bytes.
func (f *File) ContentType() string { return f.Attachment().ContentType }

// ModTime returns the time at which the file was uploaded.
func (f *File) ModTime() time.Time { return f.Attachment().Created }

// Size returns the size of the file in bytes, which is authenticated.
func (f *File) Size() int64 {
	if f == nil {
		return 0
	}
	return f.size
}

// ETag returns an entity tag that changes whenever the object does.
func (f *File) ETag() string { return `"` + f.Attachment().File.String() + `"` }

// Attachment returns the row that the file was opened by.
func (f *File) Attachment() Attachment {
	if f == nil {
		return Attachment{}
	}
	return f.attachment
}

// ReadAt decrypts a part of the file.
func (f *File) ReadAt(p []byte, offset int64) (int, error) {
	if err := f.lock(); err != nil {
		return 0, err
	}
	at := f.at
	f.mu.Unlock()
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	return at.ReadAt(p, offset)
}

// readSize is the least that Read decrypts at once, in whole chunks. Otherwise a small
// p would decrypt each chunk many times.
const readSize = 4 * files.ChunkSize

// Read implements [io.Reader].
func (f *File) Read(p []byte) (n int, err error) {
	if err := f.lock(); err != nil {
		return 0, err
	}
	defer f.mu.Unlock()
	if err := f.ctx.Err(); err != nil || len(p) == 0 {
		return 0, err
	}
	if len(f.ahead) == 0 {
		if f.offset >= f.size {
			return 0, io.EOF
		}
		if len(p) >= readSize {
			n, err = f.at.ReadAt(p, f.offset)
			f.offset += int64(n)
			return n, notAtEnd(n, err)
		}
		if f.buffer == nil {
			f.buffer = make([]byte, readSize)
		}
		want := f.buffer[:readSize-int(f.offset%files.ChunkSize)]
		n, err = f.at.ReadAt(want, f.offset)
		if err := notAtEnd(n, err); err != nil {
			return 0, err
		}
		f.ahead = want[:n]
	}
	n = copy(p, f.ahead)
	clear(f.ahead[:n])
	f.ahead = f.ahead[n:]
	f.offset += int64(n)
	return n, nil
}

// notAtEnd leaves io.EOF to the next call.
func notAtEnd(n int, err error) error {
	if n > 0 && err == io.EOF {
		return nil
	}
	return err
}

// Seek implements [io.Seeker].
func (f *File) Seek(offset int64, whence int) (int64, error) {
	if err := f.lock(); err != nil {
		return 0, err
	}
	defer f.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		offset += f.size
	default:
		return 0, fs.ErrInvalid
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	if offset != f.offset {
		clear(f.ahead)
		f.offset, f.ahead = offset, nil
	}
	return offset, nil
}

// Close closes the object and wipes the plaintext that was decrypted ahead.
func (f *File) Close() error {
	if err := f.lock(); err != nil {
		return err
	}
	defer f.mu.Unlock()
	clear(f.buffer)
	f.at, f.buffer, f.ahead = closed{}, nil, nil
	object := f.object
	f.object = closed{}
	return object.Close()
}

// closed replaces the object of a file after Close.
type closed struct{}

func (closed) ReadAt([]byte, int64) (int, error) { return 0, fs.ErrClosed }
func (closed) Close() error                      { return errors.New("attach: file is closed already") }
