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

	// segmentSize is the number of bytes handled at once. It is at least the
	// largest padding, and a multiple of the cipher's block.
	segmentSize = 256 << 10
	maxPadding  = 1 << 16
)

func newNonce() []byte {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	return nonce
}

// sealStream takes the nonce, which callers of this package cannot choose.
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
	buffer := make([]byte, segmentSize, segmentSize+maxPadding+tagSize)
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

// open returns errDecrypt or errLarge itself, and has written nothing, if
// another version may still open the object.
func (v *version) open(ctx context.Context, dst io.Writer, object *source, associatedData []byte) error {
	if err := object.seek(0); err != nil {
		return err
	}
	if v.key != nil {
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

// openStream makes both passes over the ciphertext.
func (v *version) openStream(ctx context.Context, dst io.Writer, object *source, associatedData []byte) error {
	o, err := v.opening(object, associatedData)
	if err != nil {
		return err
	}
	defer o.wipe()
	if err := o.check(ctx); err != nil {
		return err
	}
	return o.decrypt(ctx, dst, object)
}

// opening starts to read an object.
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
	o, err := v.openingUnder(nonce, associatedData)
	if err != nil {
		return nil, err
	}
	o.object, o.size = object, size
	return o, nil
}

func (v *version) openingUnder(nonce, associatedData []byte) (*opening, error) {
	if v.unbound {
		associatedData = nil
	}
	message, err := gcmstream.New(v.key, nonce, associatedData)
	if err != nil {
		return nil, configError("%w", err)
	}
	return &opening{message: message, most: v.padding, buffer: make([]byte, segmentSize+tagSize)}, nil
}

// opening is the state of reading an object, through both passes.
type opening struct {
	message *gcmstream.Message
	object  *source
	size    int64 // of the ciphertext
	buffer  []byte
	most    int    // the largest possible padding, in bytes
	tail    []byte // the last most bytes of the ciphertext

	// Somebody could change the object between the passes. So the first pass keeps
	// a proof of each segment, 64 bytes per MiB.
	proofs  [][tagSize]byte
	padding int64
}

// check is the first pass.
func (o *opening) check(ctx context.Context) error {
	if err := o.eachSegment(ctx, o.take); err != nil {
		return err
	}
	tag := o.buffer[:tagSize]
	if _, err := fullio.Read(o.object, tag); err != nil {
		return changed(err)
	}
	return o.finish(tag)
}

// take adds the next segment of the ciphertext to the tag.
func (o *opening) take(segment []byte) error {
	if len(segment) == 0 {
		return nil
	}
	if err := o.message.Authenticate(segment); err != nil {
		return errLarge
	}
	o.proofs = append(o.proofs, o.message.Proof())
	o.tail = append(o.tail, segment[max(0, len(segment)-o.most):]...)
	o.tail = o.tail[max(0, len(o.tail)-o.most):]
	return nil
}

// finish checks the tag and then the padding. After that, a segment is authentic
// if it matches its proof.
func (o *opening) finish(tag []byte) error {
	want := o.message.Tag()
	if subtle.ConstantTimeCompare(tag, want[:]) != 1 {
		return errDecrypt
	}
	if o.most == 0 {
		return nil
	}
	o.message.StreamAt(o.size-int64(len(o.tail))).XORKeyStream(o.tail, o.tail)
	defer clear(o.tail)
	n, ok := paddingOf(o.tail)
	if !ok {
		return errDecrypt
	}
	o.padding = int64(n)
	return nil
}

// decrypt is the second pass, over an object that was checked. It writes a
// segment only if it matches its proof.
func (o *opening) decrypt(ctx context.Context, dst io.Writer, object *source) error {
	if err := object.seek(nonceSize); err != nil {
		return err
	}
	o.object = object
	index, left := 0, o.size-o.padding
	return o.eachSegment(ctx, func(segment []byte) error {
		if !o.message.Open(segment, int64(index)*segmentSize, o.proofs[index]) {
			return errChanged
		}
		index++
		n := min(left, int64(len(segment)))
		left -= n
		return fullio.Write(dst, segment[:n])
	})
}

// eachSegment reads the ciphertext. There is room for a tag after each segment.
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
		if err := f(segment); err != nil {
			return err
		}
	}
	return nil
}

func (o *opening) wipe() { clear(o.buffer) }

// changed returns the error for a part that could not be read a second time.
func changed(err error) error {
	if err == io.EOF {
		return errChanged
	}
	return err
}
