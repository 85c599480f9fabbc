package files

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// The published vectors of the body, which has no header there and any context.
// KMSENCRYPTED_EXTERNAL names the folder that holds them.
func TestChunkedEncryptionVectors(t *testing.T) {
	t.Parallel()
	const file = "vectors_aes_256_gcm.json"
	path := filepath.Join(os.Getenv("KMSENCRYPTED_EXTERNAL"), "chunked-encryption", file)
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		t.Skip("KMSENCRYPTED_EXTERNAL names no folder with chunked-encryption/" + file)
	}
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		TestGroups []struct{ Tests []chunkedVector }
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, group := range v.TestGroups {
		for _, c := range group.Tests {
			c.run(t)
			ran++
		}
	}
	vectors.Ran(t, file, ran)
}

type chunkedVector struct {
	TcID      int
	Comment   string
	Key       vectors.Hex
	Ctx       vectors.Hex
	Ct        vectors.Hex // deflated
	BaseNonce vectors.Hex
	MsgLength int64
	MsgSHA512 string
	Result    string
	Flags     []string
}

// run reads the body in every way. Invalid ones must fail, after the valid
// chunks at their beginning where there are any.
func (c chunkedVector) run(t *testing.T) {
	inflated, err := zlib.NewReader(bytes.NewReader(c.Ct))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := io.ReadAll(inflated)
	if err != nil {
		t.Fatal(err)
	}
	valid := c.Result == "valid"
	for _, way := range []struct {
		name string
		open func(ctx context.Context, k Key, prefix, chunks, context []byte) ([]byte, error)
	}{{"Read", readChunks}, {"WriteTo", writeChunks}} {
		got, err := c.open(t, sealed, way.open)
		sum := sha512.Sum512(got)
		wantSum := c.MsgSHA512
		if !valid && wantSum == "" { // no valid chunk at its beginning
			empty := sha512.Sum512(nil)
			wantSum = hex.EncodeToString(empty[:])
		}
		if (err == nil) != valid || int64(len(got)) != c.MsgLength || hex.EncodeToString(sum[:]) != wantSum {
			t.Errorf("%d, %s: %s = %d bytes, %v, want %s, %d bytes", c.TcID, c.Comment, way.name, len(got), err, c.Result, c.MsgLength)
		}
	}
	// The last chunk alone says whether the length is right.
	_, err = c.open(t, sealed, openLast)
	if want := valid || slices.Contains(c.Flags, "ValidFinalChunk"); (err == nil) != want {
		t.Errorf("%d, %s: newReaderAt = %v, want success %v", c.TcID, c.Comment, err, want)
	}
	if valid {
		c.sealAgain(t, sealed)
	}
}

func (c chunkedVector) open(t *testing.T, sealed []byte, open func(ctx context.Context, k Key, prefix, chunks, context []byte) ([]byte, error)) ([]byte, error) {
	k, err := KeyFrom(c.Key)
	if err != nil {
		if !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%d: KeyFrom = %v, want ErrConfig", c.TcID, err)
		}
		return nil, err
	}
	if len(sealed) < prefixSize {
		return nil, ErrTruncated // as readStart finds
	}
	got, err := open(t.Context(), k, sealed[:prefixSize], sealed[prefixSize:], c.Ctx)
	if err != nil && !errors.Is(err, kmsencrypted.ErrDecrypt) && !errors.Is(err, ErrTruncated) {
		t.Errorf("%d: %v, want a typed error", c.TcID, err)
	}
	return got, err
}

func readChunks(ctx context.Context, k Key, prefix, chunks, context []byte) ([]byte, error) {
	r, err := newReader(ctx, bytes.NewReader(chunks), k, Options{}, prefix, context)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(plainReader{r})
	if _, again := r.Read(make([]byte, 1)); err != nil && again != err {
		return got, errors.New("a reader that failed went on")
	}
	return got, err
}

func writeChunks(ctx context.Context, k Key, prefix, chunks, context []byte) ([]byte, error) {
	r, err := newReader(ctx, bytes.NewReader(chunks), k, Options{Workers: 2}, prefix, context)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err = r.WriteTo(&out)
	return out.Bytes(), err
}

func openLast(ctx context.Context, k Key, prefix, chunks, context []byte) ([]byte, error) {
	_, err := newReaderAt(ctx, bytes.NewReader(chunks), 0, int64(len(chunks)), k, prefix, context)
	return nil, err
}

func (c chunkedVector) sealAgain(t *testing.T, sealed []byte) {
	k, err := KeyFrom(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	plaintext, err := readChunks(t.Context(), k, sealed[:prefixSize], sealed[prefixSize:], c.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := newWriter(t.Context(), &out, k, Options{}, sealed[:saltSize], c.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(w.body.baseNonce[:], c.BaseNonce) {
		t.Errorf("%d: base nonce = %x, want %x", c.TcID, w.body.baseNonce, c.BaseNonce)
	}
	if _, err := io.Copy(w, bytes.NewReader(plaintext)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil || !bytes.Equal(out.Bytes(), sealed) {
		t.Errorf("%d, %s: sealing gives %d other bytes, %v", c.TcID, c.Comment, out.Len(), err)
	}
}
