package files

import (
	"crypto/aes"
	"crypto/cipher"
	"io"
	"os"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

const chunk = 16 << 10

// limits returns what sealing and opening so many bytes in pieces takes at the least.
func limits(piece, size int) (seal, open func()) {
	aead := gcm()
	nonce := make([]byte, aead.NonceSize())
	in, out := make([]byte, piece), make([]byte, 0, piece+aead.Overhead())
	sealed := aead.Seal(nil, nonce, in, nil)
	seal = func() {
		for range size / piece {
			aead.Seal(out, nonce, in, nil)
		}
	}
	open = func() {
		for range size / piece {
			job.OrPanic(aead.Open(out, nonce, sealed, nil))
		}
	}
	return seal, open
}

// gcm takes nonces of the caller, so that none has to be made.
func gcm() cipher.AEAD {
	return job.OrPanic(cipher.NewGCM(job.OrPanic(aes.NewCipher(limit.Random(32)))))
}

// endless gives zeros at no cost.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// encryptAll encrypts from memory to nowhere.
func (p peer) encryptAll() func() {
	buffer := make([]byte, 1<<20)
	return func() {
		w := job.OrPanic(p.encrypt(io.Discard))
		job.OrPanic(io.CopyBuffer(w, io.LimitReader(endless{}, objectSize), buffer))
		job.Must(w.Close())
	}
}

// decryptAll decrypts a file in the page cache to nowhere.
func (p peer) decryptAll(object *os.File) func() {
	buffer := make([]byte, 1<<20)
	return func() {
		r := job.OrPanic(p.decrypted(object))
		job.OrPanic(io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buffer))
	}
}
