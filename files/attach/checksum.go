package attach

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"hash"
	"io"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// checksum returns the checksum of a blob, which identifies its object.
func (b *Blob) checksum() (files.ID, error) {
	sum, err := base64.StdEncoding.DecodeString(b.Checksum)
	if err != nil || len(sum) != md5.Size {
		return files.ID{}, fmt.Errorf("%w: checksum of blob %d", kmsencrypted.ErrMalformed, b.ID)
	}
	return files.ID(sum), nil
}

// summing computes the MD5 checksum of an object while somebody else reads it from
// beginning to end, so that it is not read twice. A reader that begins again also
// begins the checksum again.
type summing struct {
	io.ReaderAt
	size int64
	sum  hash.Hash
	seen int64 // bytes in sum
}

func newSumming(object Object) *summing {
	return &summing{ReaderAt: object, size: object.Size(), sum: md5.New()}
}

func (s *summing) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(p, off)
	if off == 0 && s.seen < s.size {
		s.sum.Reset()
		s.seen = 0
	}
	if off == s.seen {
		s.sum.Write(p[:n])
		s.seen += int64(n)
	}
	return n, err
}

// check returns [kmsencrypted.ErrDecrypt] unless the object that was read is the one
// with this checksum.
func (s *summing) check(want files.ID) error {
	if s.seen != s.size || files.ID(s.sum.Sum(nil)) != want {
		return fmt.Errorf("%w: the object is not the one of the row's checksum", kmsencrypted.ErrDecrypt)
	}
	return nil
}
