package lockbox

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"io"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
	"github.com/kmsencrypted/kmsencrypted/internal/gcmstream"
)

const (
	nonceSize = gcmstream.NonceSize
	tagSize   = gcmstream.TagSize

	// segmentSize is how much is in hand at a time. It is not smaller than the
	// largest padding, and a multiple of the cipher's block.
	segmentSize = 256 << 10
	maxPadding  = 1 << 16
)

func newNonce() []byte {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	return nonce
}

// sealStream takes the nonce, which nobody outside may choose.
func (v *version) sealStream(ctx context.Context, dst io.Writer, src io.Reader, nonce, associatedData []byte) error {
	if v.unbound && len(associatedData) > 0 {
		return configError("these options have no associated data")
	}
	message, err := gcmstream.New(v.key, nonce, associatedData)
	if err != nil {
		return configError("%w", err)
	}
	if err := fullio.Write(dst, nonce); err != nil {
		return err
	}
	buffer := make([]byte, segmentSize, segmentSize+maxPadding)
	defer clear(buffer)
	var total int64
	err = eachSegment(ctx, src, buffer, func(segment []byte, last bool) error {
		total += int64(len(segment))
		if last && v.padding > 0 {
			segment = pad(segment, total, v.padding)
		}
		if err := message.Encrypt(segment, segment); err != nil {
			return errLarge
		}
		return fullio.Write(dst, segment)
	})
	if err != nil {
		return err
	}
	tag := message.Tag()
	return fullio.Write(dst, tag[:])
}

// open returns errDecrypt itself for whatever another version may still open,
// and then has written nothing.
func (v *version) open(ctx context.Context, dst io.Writer, object *source, associatedData []byte) error {
	if err := object.seek(0); err != nil {
		return err
	}
	if v.key != nil {
		if v.unbound {
			associatedData = nil
		}
		return v.openStream(ctx, dst, object, associatedData)
	}
	if object.size > v.limit {
		return errLarge
	}
	box, err := readWhole(ctx, object, v.limit)
	if err != nil {
		return err
	}
	plaintext, err := v.box.Open(nil, box, associatedData)
	if errors.Is(err, kmsencrypted.ErrDecrypt) {
		return errDecrypt
	}
	if err != nil {
		return err
	}
	defer clear(plaintext)
	return fullio.Write(dst, plaintext)
}

// openStream goes over the ciphertext twice. What the first pass found authentic
// might be exchanged before the second; so it notes the tag of every beginning
// that ends with a segment, 64 bytes for each MiB, and the second pass gives out a
// segment only if it comes to the same tag.
func (v *version) openStream(ctx context.Context, dst io.Writer, object *source, associatedData []byte) error {
	size := object.size - nonceSize - tagSize
	if size < 0 {
		return errDecrypt
	}
	if size > gcmstream.MaxSize {
		return errLarge
	}
	nonce := make([]byte, nonceSize)
	if _, err := fullio.Read(object, nonce); err != nil {
		return changed(err)
	}
	message, err := gcmstream.New(v.key, nonce, associatedData)
	if err != nil {
		return configError("%w", err)
	}
	buffer := make([]byte, segmentSize)
	defer clear(buffer)

	var tags [][tagSize]byte
	var tail []byte // the ciphertext's end, where the padding is
	err = ciphertext(ctx, object, size, buffer, func(segment []byte) error {
		if err := message.Authenticate(segment); err != nil {
			return errLarge
		}
		tags = append(tags, message.Tag())
		tail = append(tail, segment[max(0, len(segment)-v.padding):]...)
		tail = tail[max(0, len(tail)-v.padding):]
		return nil
	})
	if err != nil {
		return err
	}
	var tag [tagSize]byte
	if _, err := fullio.Read(object, tag[:]); err != nil {
		return changed(err)
	}
	want := message.Tag()
	if subtle.ConstantTimeCompare(tag[:], want[:]) != 1 {
		return errDecrypt
	}

	left := size
	if v.padding > 0 {
		message.StreamAt(size-int64(len(tail))).XORKeyStream(tail, tail)
		padding, ok := paddingOf(tail)
		clear(tail)
		if !ok {
			return errDecrypt
		}
		left -= int64(padding)
	}

	if err := object.seek(nonceSize); err != nil {
		return err
	}
	message.Reset()
	return ciphertext(ctx, object, size, buffer, func(segment []byte) error {
		if err := message.Authenticate(segment); err != nil {
			return errLarge
		}
		if again := message.Tag(); subtle.ConstantTimeCompare(again[:], tags[0][:]) != 1 {
			return errChanged
		}
		tags = tags[1:]
		message.Decrypt(segment, segment)
		n := min(left, int64(len(segment)))
		left -= n
		return fullio.Write(dst, segment[:n])
	})
}

// ciphertext calls f with size bytes of a source, a segment at a time.
func ciphertext(ctx context.Context, src io.Reader, size int64, buffer []byte, f func(segment []byte) error) error {
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		segment := buffer[:min(size, int64(len(buffer)))]
		size -= int64(len(segment))
		if _, err := fullio.Read(src, segment); err != nil {
			return changed(err)
		}
		if err := f(segment); err != nil {
			return err
		}
	}
	return nil
}

// changed is the error of reading what was there before.
func changed(err error) error {
	if err == io.EOF {
		return errChanged
	}
	return err
}
