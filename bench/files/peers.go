package files

import (
	"context"
	"io"
	"os"

	"filippo.io/age"
	"github.com/minio/sio"
	sioformat "github.com/secure-io/sio-go"
	tink "github.com/tink-crypto/tink-go/v2/streamingaead/subtle"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// peer is a way to encrypt files. Every object of it has a key of its own, made
// when the peer is made; that is not measured.
type peer struct {
	name, way, module, otherwise string

	encrypt func(dst io.Writer) (io.WriteCloser, error)
	decrypt func(src io.Reader) (io.Reader, error)
	// at opens an object for random access; nil if the library has none.
	at func(src io.ReaderAt, size int64) (io.ReaderAt, error)
}

// ours with so many workers.
func ours(workers int) peer {
	key, o := files.NewKey(), files.Options{Workers: workers}
	return peer{
		name:    "kmsencrypted",
		encrypt: func(dst io.Writer) (io.WriteCloser, error) { return files.NewWriter(context.Background(), dst, key, o) },
		decrypt: func(src io.Reader) (io.Reader, error) { return files.NewReader(context.Background(), src, key, o) },
		at: func(src io.ReaderAt, size int64) (io.ReaderAt, error) {
			return files.NewReaderAt(context.Background(), src, size, key)
		},
	}
}

func peers() []peer {
	return []peer{minio(), secureIO(), ageX25519(), tinkGCM("1 MiB", 1<<20), tinkGCM("4 KiB", 4<<10)}
}

// noCut is shown by TestCutObjects.
const noCut = "random access does not notice that an object was cut; no commitment"

func minio() peer {
	config := sio.Config{Key: limit.Random(32), MinVersion: sio.Version20, CipherSuites: []byte{sio.AES_256_GCM}}
	return peer{
		name: "minio/sio", module: "github.com/minio/sio",
		otherwise: noCut,
		encrypt:   func(dst io.Writer) (io.WriteCloser, error) { return sio.EncryptWriter(dst, config) },
		decrypt:   func(src io.Reader) (io.Reader, error) { return sio.DecryptReader(src, config) },
		at:        func(src io.ReaderAt, _ int64) (io.ReaderAt, error) { return sio.DecryptReaderAt(src, config) },
	}
}

func secureIO() peer {
	stream := sioformat.NewStream(gcm(), sioformat.BufSize)
	nonce := limit.Random(stream.NonceSize())
	return peer{
		name: "secure-io/sio-go", module: "github.com/secure-io/sio-go",
		otherwise: noCut,
		encrypt:   func(dst io.Writer) (io.WriteCloser, error) { return stream.EncryptWriter(dst, nonce, nil), nil },
		decrypt:   func(src io.Reader) (io.Reader, error) { return stream.DecryptReader(src, nonce, nil), nil },
		at: func(src io.ReaderAt, _ int64) (io.ReaderAt, error) {
			return stream.DecryptReaderAt(src, nonce, nil), nil
		},
	}
}

func ageX25519() peer {
	identity := job.OrPanic(age.GenerateX25519Identity())
	return peer{
		name: "age", module: "filippo.io/age",
		otherwise: "ChaCha20-Poly1305, not AES-GCM; agrees on a key for each object that it opens",
		encrypt:   func(dst io.Writer) (io.WriteCloser, error) { return age.Encrypt(dst, identity.Recipient()) },
		decrypt:   func(src io.Reader) (io.Reader, error) { return age.Decrypt(src, identity) },
		at: func(src io.ReaderAt, size int64) (io.ReaderAt, error) {
			r, _, err := age.DecryptReaderAt(src, size, identity)
			return r, err
		},
	}
}

// tinkGCM is AES-256-GCM-HKDF, as Tink's key templates have it.
func tinkGCM(segments string, segment int) peer {
	a := job.OrPanic(tink.NewAESGCMHKDF(limit.Random(32), "SHA256", 32, segment, 0))
	return peer{
		name: "Tink", way: "segments of " + segments, module: "github.com/tink-crypto/tink-go/v2",
		otherwise: "no random access in Go; no commitment",
		encrypt:   func(dst io.Writer) (io.WriteCloser, error) { return a.NewEncryptingWriter(dst, nil) },
		decrypt:   func(src io.Reader) (io.Reader, error) { return a.NewDecryptingReader(src, nil) },
	}
}

// object encrypts into a file in folder, which is then in the page cache.
func (p peer) object(folder string, plaintext []byte) (*os.File, error) {
	f, err := os.CreateTemp(folder, "object")
	if err != nil {
		return nil, err
	}
	w, err := p.encrypt(struct{ io.Writer }{f}) // sio closes what it can close
	if err == nil {
		_, err = w.Write(plaintext)
	}
	if err == nil {
		err = w.Close()
	}
	return f, err
}

// decrypted returns the content of an object from its beginning.
func (p peer) decrypted(object io.ReadSeeker) (io.Reader, error) {
	if _, err := object.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return p.decrypt(object)
}

// opened returns an object for random access.
func (p peer) opened(object *os.File) (io.ReaderAt, error) {
	info, err := object.Stat()
	if err != nil {
		return nil, err
	}
	return p.at(object, info.Size())
}
