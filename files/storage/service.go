package storage

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec"
)

// Service is a store under a name, with the operations of a service of Active Storage. A
// key is the name of an object: an object is written once and never changed. A key that
// [fs.ValidPath] does not allow is [fs.ErrInvalid], and under Disk some others are, such as
// those of fewer than four bytes: see [attach.OpenDir]. A Service is safe for concurrent use.
type Service struct {
	name     string
	bucket   attach.Bucket
	list     lister
	has      func(ctx context.Context, key string) (bool, error) // nil if list is as fast
	close    func() error
	encrypts bool
	signer   *signer         // nil if it has no URLs
	native   *gocloud.Bucket // nil if it is not of this kind
}

// Name returns the name in the configuration.
func (s *Service) Name() string {
	if s == nil {
		return ""
	}
	return s.name
}

// Encrypts reports whether the service encrypts what it is given.
func (s *Service) Encrypts() bool { return s != nil && s.encrypts }

// Bucket returns the service as a store of attached files, or nil for a Service that was
// not made by [Open].
func (s *Service) Bucket() attach.Bucket {
	if s == nil {
		return nil
	}
	return s.bucket
}

// UploadOptions are the options of [Service.Upload].
type UploadOptions struct {
	Headers
	// MD5 is that of the file, 16 bytes, or nil.
	MD5 []byte
}

// Upload stores src under a new key, in constant memory. It returns [io/fs.ErrExist] if
// the store says that the key is taken, [s3ec.ErrDigest] if src has another MD5 or the
// store received other bytes, and errors of src and the store; after an error there is no
// new object.
func (s *Service) Upload(ctx context.Context, key string, src io.Reader, o UploadOptions) error {
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.checkKey("upload", key); err != nil {
		return err
	}
	if src == nil || o.MD5 != nil && len(o.MD5) != md5.Size {
		return configError("the source is nil or the MD5 has %d bytes", len(o.MD5))
	}
	for name := range o.Metadata {
		if strings.HasPrefix(strings.ToLower(name), "x-amz-") {
			return configError("metadata %s belongs to encryption", name)
		}
	}
	// Put removes what a failed upload may have left, so it must not begin where something is.
	// Whoever may not list has to choose keys at random.
	if taken, err := s.Exists(ctx, key); err == nil && taken {
		return s.failed("upload", key, fs.ErrExist)
	}
	ctx = context.WithValue(ctx, headersKey{}, o.Headers)
	return s.failed("upload", key, s.bucket.Put(ctx, key, func(w io.Writer) error {
		sum := md5.New()
		if _, err := io.Copy(io.MultiWriter(w, sum), src); err != nil {
			return err
		}
		if o.MD5 != nil && !bytes.Equal(sum.Sum(nil), o.MD5) {
			return s3ec.ErrDigest
		}
		return nil
	}))
}

// Open opens an object, which can be read at any offset until ctx is done. An encrypted one
// is read whole and checked first. The caller closes it. Open returns [io/fs.ErrNotExist]
// if there is none.
func (s *Service) Open(ctx context.Context, key string) (attach.Object, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	if err := s.checkKey("open", key); err != nil {
		return nil, err
	}
	object, err := s.bucket.Open(ctx, key)
	return object, s.failed("open", key, err)
}

// Download writes an object to dst, in constant memory, and returns the number of bytes.
func (s *Service) Download(ctx context.Context, key string, dst io.Writer) (int64, error) {
	object, err := s.Open(ctx, key)
	if err != nil {
		return 0, err
	}
	defer object.Close()
	n, err := io.Copy(dst, io.NewSectionReader(object, 0, object.Size()))
	return n, s.failed("download", key, err)
}

// Chunk returns length bytes of an object from offset on, or fewer at its end.
func (s *Service) Chunk(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	object, err := s.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	if offset < 0 || length < 0 {
		return nil, s.failed("read", key, fs.ErrInvalid)
	}
	chunk := make([]byte, max(0, min(length, object.Size()-offset)))
	n, err := io.ReadFull(io.NewSectionReader(object, offset, int64(len(chunk))), chunk)
	return chunk[:n], s.failed("read", key, err)
}

// Exists reports whether there is an object.
func (s *Service) Exists(ctx context.Context, key string) (bool, error) {
	if err := s.usable(); err != nil {
		return false, err
	}
	if err := s.checkKey("list", key); err != nil {
		return false, err
	}
	if s.has != nil {
		has, err := s.has(ctx, key)
		return has, s.failed("open", key, err)
	}
	for found, err := range s.list(ctx, key) {
		if err != nil || found == key {
			return err == nil, s.failed("list", key, err)
		}
	}
	return false, nil
}

// Delete removes an object. It returns nil if there is none.
func (s *Service) Delete(ctx context.Context, key string) error {
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.checkKey("delete", key); err != nil {
		return err
	}
	return s.failed("delete", key, s.bucket.Delete(ctx, key))
}

// DeletePrefix removes all objects whose keys begin with prefix, such as "variants/KEY/",
// and returns their number. An empty prefix is [kmsencrypted.ErrConfig].
func (s *Service) DeletePrefix(ctx context.Context, prefix string) (n int, err error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	if prefix == "" {
		return 0, configError("the prefix is empty")
	}
	if err := s.checkKey("list", strings.TrimSuffix(prefix, "/")); err != nil {
		return 0, err
	}
	var keys []string
	for key, err := range s.list(ctx, prefix) {
		if err != nil {
			return 0, s.failed("list", prefix, err)
		}
		keys = append(keys, key)
	}
	for _, key := range keys {
		if err := s.Delete(ctx, key); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Compose stores the contents of the sources, one after another, under a new key. Of one
// source it is a copy. The bytes pass through this program, in constant memory, and an
// encrypted object has a key of its own.
func (s *Service) Compose(ctx context.Context, sources []string, key string, o UploadOptions) error {
	from := &concatenation{ctx: ctx, service: s, keys: sources}
	err := s.Upload(ctx, key, from, o)
	return errors.Join(err, from.Close())
}

// concatenation reads objects one after another.
type concatenation struct {
	ctx     context.Context
	service *Service
	keys    []string
	object  attach.Object
	section *io.SectionReader
}

func (c *concatenation) Read(p []byte) (int, error) {
	for {
		if c.object == nil {
			if len(c.keys) == 0 {
				return 0, io.EOF
			}
			object, err := c.service.Open(c.ctx, c.keys[0])
			if err != nil {
				return 0, err
			}
			c.object, c.section, c.keys = object, io.NewSectionReader(object, 0, object.Size()), c.keys[1:]
		}
		n, err := c.section.Read(p)
		if err != io.EOF {
			return n, err
		}
		if err := c.Close(); n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *concatenation) Close() error {
	if c.object == nil {
		return nil
	}
	object := c.object
	c.object = nil
	return object.Close()
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Service.
func (s *Service) usable() error {
	if s == nil || s.bucket == nil {
		return configError("the Service was not made by Open")
	}
	return nil
}

// checkKey returns [fs.ErrInvalid] for a key that is no path: "a/../b" leads out of a
// folder, and the drivers of some stores panic.
func (s *Service) checkKey(operation, key string) error {
	if key == "." || !fs.ValidPath(key) {
		return s.failed(operation, key, fs.ErrInvalid)
	}
	return nil
}

// failed adds service, operation and object to an error.
func (s *Service) failed(operation, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("storage: service %s: %s %q: %w", s.Name(), operation, key, err)
}
