package attach

import (
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files"
)

// File is an attached file that is open: an [io.ReadSeekCloser] and an
// [io.ReaderAt] of its plaintext. ReadAt is safe for concurrent use, the rest is not.
type File struct {
	attachment Attachment
	at         io.ReaderAt
	size       int64
	object     io.Closer

	offset int64
	ahead  []byte // decrypted and not read yet, from offset on
	buffer []byte
}

func newFile(a Attachment, at io.ReaderAt, size int64, object io.Closer) *File {
	return &File{attachment: a, at: at, size: size, object: object}
}

// Name is the file's name, clean in the sense of [CleanName].
func (f *File) Name() string { return f.attachment.FileName }

// ContentType is what the file's first bytes say it is.
func (f *File) ContentType() string { return f.attachment.ContentType }

// ModTime is when the file was uploaded.
func (f *File) ModTime() time.Time { return f.attachment.Created }

// Size is that of the file in bytes. It is authentic.
func (f *File) Size() int64 { return f.size }

// ETag changes whenever the object does.
func (f *File) ETag() string { return `"` + f.attachment.File.String() + `"` }

// Attachment is the row that the file was opened by.
func (f *File) Attachment() Attachment { return f.attachment }

// ReadAt decrypts a part of the file.
func (f *File) ReadAt(p []byte, offset int64) (int, error) { return f.at.ReadAt(p, offset) }

// readSize is how much Read decrypts at least, in whole chunks: a small p would
// else decrypt each chunk many times.
const readSize = 4 * files.ChunkSize

// Read implements [io.Reader].
func (f *File) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
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

// notAtEnd leaves the end to the next call.
func notAtEnd(n int, err error) error {
	if n > 0 && err == io.EOF {
		return nil
	}
	return err
}

// Seek implements [io.Seeker].
func (f *File) Seek(offset int64, whence int) (int64, error) {
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

// Close closes the object and wipes what was decrypted ahead.
func (f *File) Close() error {
	if f.at == nil {
		return fs.ErrClosed
	}
	clear(f.buffer)
	f.at, f.buffer, f.ahead = closed{}, nil, nil
	object := f.object
	f.object = closed{}
	return object.Close()
}

// closed is what is left of a file.
type closed struct{}

func (closed) ReadAt([]byte, int64) (int, error) { return 0, fs.ErrClosed }
func (closed) Close() error                      { return errors.New("attach: file is closed already") }
