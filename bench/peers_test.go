package bench

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/minio/sio"
	sioformat "github.com/secure-io/sio-go"
	tink "github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
)

// peer is a way to encrypt files. Every object of it has a key of its own, made
// when the peer is made; that is not measured.
type peer struct {
	name    string
	encrypt func(dst io.Writer) (io.WriteCloser, error)
	decrypt func(src io.Reader) (io.Reader, error)
	// at opens an object for random access; nil if the library has none.
	at func(src io.ReaderAt, size int64) (io.ReaderAt, error)
}

// ours with so many workers.
func ours(t testing.TB, workers int) peer {
	key, o := files.NewKey(), files.Options{Workers: workers}
	return peer{
		name:    "kmsencrypted",
		encrypt: func(dst io.Writer) (io.WriteCloser, error) { return files.NewWriter(t.Context(), dst, key, o) },
		decrypt: func(src io.Reader) (io.Reader, error) { return files.NewReader(t.Context(), src, key, o) },
		at: func(src io.ReaderAt, size int64) (io.ReaderAt, error) {
			return files.NewReaderAt(t.Context(), src, size, key)
		},
	}
}

func peers(t testing.TB) []peer {
	t.Helper()
	return []peer{minio(), secureIO(t), ageX25519(t), tinkGCM(t, "tink-go, 1 MiB segments", 1<<20), tinkGCM(t, "tink-go, 4 KiB segments", 4<<10)}
}

func minio() peer {
	config := sio.Config{Key: random(32), MinVersion: sio.Version20, CipherSuites: []byte{sio.AES_256_GCM}}
	return peer{
		name:    "minio/sio",
		encrypt: func(dst io.Writer) (io.WriteCloser, error) { return sio.EncryptWriter(dst, config) },
		decrypt: func(src io.Reader) (io.Reader, error) { return sio.DecryptReader(src, config) },
		at:      func(src io.ReaderAt, _ int64) (io.ReaderAt, error) { return sio.DecryptReaderAt(src, config) },
	}
}

func secureIO(t testing.TB) peer {
	stream := sioformat.NewStream(gcm(t), sioformat.BufSize)
	nonce := random(stream.NonceSize())
	return peer{
		name:    "secure-io/sio-go",
		encrypt: func(dst io.Writer) (io.WriteCloser, error) { return stream.EncryptWriter(dst, nonce, nil), nil },
		decrypt: func(src io.Reader) (io.Reader, error) { return stream.DecryptReader(src, nonce, nil), nil },
		at: func(src io.ReaderAt, _ int64) (io.ReaderAt, error) {
			return stream.DecryptReaderAt(src, nonce, nil), nil
		},
	}
}

func ageX25519(t testing.TB) peer {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return peer{
		name:    "age",
		encrypt: func(dst io.Writer) (io.WriteCloser, error) { return age.Encrypt(dst, identity.Recipient()) },
		decrypt: func(src io.Reader) (io.Reader, error) { return age.Decrypt(src, identity) },
		at: func(src io.ReaderAt, size int64) (io.ReaderAt, error) {
			r, _, err := age.DecryptReaderAt(src, size, identity)
			return r, err
		},
	}
}

// tinkGCM is AES-256-GCM-HKDF, as Tink's key templates have it.
func tinkGCM(t testing.TB, name string, segment int) peer {
	a, err := tink.NewAESGCMHKDF(random(32), "SHA256", 32, segment, 0)
	if err != nil {
		t.Fatal(err)
	}
	return peer{
		name:    name,
		encrypt: func(dst io.Writer) (io.WriteCloser, error) { return a.NewEncryptingWriter(dst, nil) },
		decrypt: func(src io.Reader) (io.Reader, error) { return a.NewDecryptingReader(src, nil) },
	}
}

// ranges opens an object for random access. A library that has none reads from the
// beginning, which is what a program would have to do.
func (p peer) ranges(src *os.File) (io.ReaderAt, error) {
	if p.at == nil {
		return fromTheBeginning{p, src}, nil
	}
	info, err := src.Stat()
	if err != nil {
		return nil, err
	}
	return p.at(src, info.Size())
}

type fromTheBeginning struct {
	peer peer
	src  *os.File
}

func (f fromTheBeginning) ReadAt(b []byte, off int64) (int, error) {
	if _, err := f.src.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	r, err := f.peer.decrypt(f.src)
	if err != nil {
		return 0, err
	}
	if _, err := io.CopyN(io.Discard, r, off); err != nil {
		return 0, err
	}
	return io.ReadFull(r, b)
}

// object encrypts into a file, which is then in the page cache.
func (p peer) object(t testing.TB, plaintext []byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "object"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	w, err := p.encrypt(struct{ io.Writer }{f}) // sio closes what it can close
	if err == nil {
		_, err = w.Write(plaintext)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func gcm(t testing.TB) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(random(32))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// What is compared does the same.
func TestPeersReadWhatTheyWrite(t *testing.T) {
	t.Parallel()
	plaintext := random(3<<20 + 777)
	for _, p := range append(peers(t), ours(t, 1), ours(t, 2)) {
		object := p.object(t, plaintext)
		if _, err := object.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		r, err := p.decrypt(object)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%s: %d bytes, %v", p.name, len(got), err)
		}
		at, err := p.ranges(object)
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []int{0, 1, 16384, 65535, 1 << 20, 3<<20 - 5} {
			for _, n := range []int{1, 4096, 65536} {
				n = min(n, len(plaintext)-off)
				b := make([]byte, n)
				if m, err := at.ReadAt(b, int64(off)); m != n || err != nil && err != io.EOF || !bytes.Equal(b, plaintext[off:][:n]) {
					t.Errorf("%s: %d bytes at %d: %d, %v", p.name, n, off, m, err)
				}
			}
		}
	}
}
