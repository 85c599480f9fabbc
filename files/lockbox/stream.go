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

// open returns errDecrypt or errLarge itself for whatever another version may
// still open, and then has written nothing.
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

// openStream goes over the ciphertext twice.
func (v *version) openStream(ctx context.Context, dst io.Writer, object *source, associatedData []byte) error {
	o, err := v.opening(object, associatedData)
	if err != nil {
		return err
	}
	defer clear(o.buffer)
	// What the first pass found authentic might be exchanged before the second: so
	// there is the tag of every beginning that ends with a segment, 64 bytes for
	// each MiB.
	var tags [][tagSize]byte
	padding, err := o.check(ctx, v.padding, func([]byte) { tags = append(tags, o.message.Tag()) })
	if err != nil {
		return err
	}
	return o.decrypt(ctx, dst, o.size-padding, tags)
}

// opening begins to read an object.
func (v *version) opening(object *source, associatedData []byte) (*opening, error) {
	size := object.size - nonceSize - tagSize
	switch {
	case size < 0:
		return nil, errDecrypt
	case size > gcmstream.MaxSize:
		return nil, errLarge
	}
	nonce := make([]byte, nonceSize)
	if _, err := fullio.Read(object, nonce); err != nil {
		return nil, changed(err)
	}
	message, err := gcmstream.New(v.key, nonce, associatedData)
	if err != nil {
		return nil, configError("%w", err)
	}
	return &opening{message, object, size, make([]byte, segmentSize)}, nil
}

// opening is an object on its way through both passes.
type opening struct {
	message *gcmstream.Message
	object  *source
	size    int64 // of the ciphertext
	buffer  []byte
}

// check is the first pass: it checks the tag and then the padding, whose size it
// returns; most is how large that may be. note is called with each segment of the
// ciphertext when it is in the tag.
func (o *opening) check(ctx context.Context, most int, note func(segment []byte)) (padding int64, err error) {
	var tail []byte // the last bytes of the ciphertext, as many as padding may have
	err = o.eachSegment(ctx, func(segment []byte) error {
		note(segment)
		tail = append(tail, segment[max(0, len(segment)-most):]...)
		tail = tail[max(0, len(tail)-most):]
		return nil
	})
	if err != nil {
		return 0, err
	}
	var tag [tagSize]byte
	if _, err := fullio.Read(o.object, tag[:]); err != nil {
		return 0, changed(err)
	}
	want := o.message.Tag()
	if subtle.ConstantTimeCompare(tag[:], want[:]) != 1 {
		return 0, errDecrypt
	}
	if most == 0 {
		return 0, nil
	}
	o.message.StreamAt(o.size-int64(len(tail))).XORKeyStream(tail, tail)
	defer clear(tail)
	n, ok := paddingOf(tail)
	if !ok {
		return 0, errDecrypt
	}
	return int64(n), nil
}

// decrypt is the second pass: it gives out a segment if that comes to the same tag
// again, and left bytes of plaintext in all.
func (o *opening) decrypt(ctx context.Context, dst io.Writer, left int64, tags [][tagSize]byte) error {
	if err := o.object.seek(nonceSize); err != nil {
		return err
	}
	o.message.Reset()
	return o.eachSegment(ctx, func(segment []byte) error {
		if again := o.message.Tag(); subtle.ConstantTimeCompare(again[:], tags[0][:]) != 1 {
			return errChanged
		}
		tags = tags[1:]
		o.message.Decrypt(segment, segment)
		n := min(left, int64(len(segment)))
		left -= n
		return fullio.Write(dst, segment[:n])
	})
}

// eachSegment reads the ciphertext, takes each segment into the tag and then calls f.
func (o *opening) eachSegment(ctx context.Context, f func(segment []byte) error) error {
	for left := o.size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		segment := o.buffer[:min(left, segmentSize)]
		left -= int64(len(segment))
		if _, err := fullio.Read(o.object, segment); err != nil {
			return changed(err)
		}
		if err := o.message.Authenticate(segment); err != nil {
			return errLarge
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
