package files

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func isTyped(err error) bool {
	for _, known := range []error{kmsencrypted.ErrDecrypt, kmsencrypted.ErrMalformed, kmsencrypted.ErrNotCiphertext, kmsencrypted.ErrTooLarge} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// refused checks that an object which is not the one that was sealed is refused
// in every way of reading, with a beginning of the file at most.
func refused(t *testing.T, what string, k Key, object, plaintext []byte) {
	t.Helper()
	for name, open := range openers {
		got, err := open(t, k, object)
		if !isTyped(err) {
			t.Errorf("%s, %s: error = %v, want a typed one", what, name, err)
		}
		if !bytes.HasPrefix(plaintext, got) || len(got)%ChunkSize != 0 && len(got) != len(plaintext) {
			t.Errorf("%s, %s: gave out %d bytes that were not sealed so", what, name, len(got))
		}
	}
}

// chunksOf splits an object into the part before the chunks and the chunks.
func chunksOf(object []byte) (start []byte, chunks [][]byte) {
	return object[:bodyStart], slices.Collect(slices.Chunk(object[bodyStart:], sealedChunk))
}

func TestChunksMoved(t *testing.T) {
	t.Parallel()
	plaintext := pattern(3*ChunkSize + 100)
	k := fixedKey(t, 1)
	object, twin := sealBytes(t, k, plaintext), sealBytes(t, k, plaintext)
	start, c := chunksOf(object)
	twinStart, tw := chunksOf(twin)
	for name, chunks := range map[string][][]byte{
		"two exchanged":         {c[1], c[0], c[2], c[3]},
		"last two exchanged":    {c[0], c[1], c[3], c[2]},
		"one repeated":          {c[0], c[0], c[1], c[2], c[3]},
		"one in place of other": {c[0], c[0], c[2], c[3]},
		"last one repeated":     {c[0], c[1], c[2], c[3], c[3]},
		"first dropped":         {c[1], c[2], c[3]},
		"middle dropped":        {c[0], c[2], c[3]},
		"last dropped":          {c[0], c[1], c[2]},
		"last alone":            {c[3]},
		"none":                  {},
		"one of a twin":         {c[0], tw[1], c[2], c[3]},
		"last of a twin":        {c[0], c[1], c[2], tw[3]},
		"all of a twin":         tw,
		"an empty one behind":   {c[0], c[1], c[2], c[3], make([]byte, tagSize)},
	} {
		refused(t, name, k, append(bytes.Clone(start), bytes.Join(chunks, nil)...), plaintext)
	}
	refused(t, "header of a twin", k, append(bytes.Clone(twinStart[:HeaderSize]), object[HeaderSize:]...), plaintext)
	refused(t, "another key", fixedKey(t, 2), object, nil)
}

func TestCut(t *testing.T) {
	t.Parallel()
	plaintext := pattern(2*ChunkSize + 50)
	k := fixedKey(t, 1)
	object := sealBytes(t, k, plaintext)
	cuts := []int{}
	for i := range bodyStart + tagSize + 2 {
		cuts = append(cuts, i)
	}
	for chunk := range 3 {
		border := bodyStart + chunk*sealedChunk
		for _, d := range []int{-1, 0, 1, 15, 16, 17, 5000} {
			cuts = append(cuts, border+d)
		}
	}
	cuts = append(cuts, len(object)-1, len(object)-tagSize, len(object)-tagSize-1)
	for _, n := range cuts {
		refused(t, fmt.Sprintf("cut to %d bytes", n), k, object[:n], plaintext)
	}
	for _, n := range []int{1, 16, 17, sealedChunk} {
		refused(t, fmt.Sprintf("%d bytes more", n), k, append(bytes.Clone(object), make([]byte, n)...), plaintext)
	}
}

func TestFlipped(t *testing.T) {
	t.Parallel()
	plaintext := pattern(ChunkSize + 50)
	k := fixedKey(t, 1)
	object := sealBytes(t, k, plaintext)
	places := []int{bodyStart + ChunkSize - 1, bodyStart + ChunkSize, bodyStart + sealedChunk - 1, bodyStart + sealedChunk, len(object) - 1}
	for i := range bodyStart + 1 {
		places = append(places, i)
	}
	for _, i := range places {
		changed := bytes.Clone(object)
		changed[i] ^= 1 << (i % 8)
		refused(t, fmt.Sprintf("bit flipped in byte %d", i), k, changed, plaintext)
	}
}

func TestErrorNamesTheChunk(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 1)
	object := sealBytes(t, k, pattern(40*ChunkSize))
	object[bodyStart+37*sealedChunk] ^= 1
	for name, open := range openers {
		got, err := open(t, k, object)
		if !errors.Is(err, kmsencrypted.ErrDecrypt) || !bytes.Contains([]byte(err.Error()), []byte("chunk 37:")) || !bytes.Equal(got, pattern(40 * ChunkSize)[:37*ChunkSize]) {
			t.Errorf("%s = %d bytes, %v, want %d bytes and chunk 37", name, len(got), err, 37*ChunkSize)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for _, n := range append([]int64{MaxSize - ChunkSize, MaxSize - 1, MaxSize}, int64s(sizes)...) {
		sealed, err := SealedSize(n)
		if err != nil {
			t.Errorf("SealedSize(%d) = %v", n, err)
		}
		if got, err := OpenedSize(sealed); got != n || err != nil {
			t.Errorf("OpenedSize(%d) = %d, %v, want %d", sealed, got, err, n)
		}
	}
	most, _ := SealedSize(MaxSize)
	for _, c := range []struct {
		call string
		size func(int64) (int64, error)
		n    int64
		want error
	}{
		{"SealedSize", SealedSize, -1, kmsencrypted.ErrConfig},
		{"SealedSize", SealedSize, MaxSize + 1, kmsencrypted.ErrTooLarge},
		{"SealedSize", SealedSize, 1<<63 - 1, kmsencrypted.ErrTooLarge},
		{"OpenedSize", OpenedSize, -1 << 63, ErrTruncated},
		{"OpenedSize", OpenedSize, -1, ErrTruncated},
		{"OpenedSize", OpenedSize, 0, ErrTruncated},
		{"OpenedSize", OpenedSize, bodyStart + 15, ErrTruncated},
		{"OpenedSize", OpenedSize, bodyStart + sealedChunk, ErrTruncated},
		{"OpenedSize", OpenedSize, bodyStart + sealedChunk + 15, ErrTruncated},
		{"OpenedSize", OpenedSize, most + 1, ErrTruncated},
		{"OpenedSize", OpenedSize, most + 17, kmsencrypted.ErrTooLarge},
		{"OpenedSize", OpenedSize, 1<<63 - 1, kmsencrypted.ErrTooLarge},
	} {
		if got, err := c.size(c.n); !errors.Is(err, c.want) {
			t.Errorf("%s(%d) = %d, %v, want %v", c.call, c.n, got, err, c.want)
		}
	}
}

func int64s(in []int) (out []int64) {
	for _, n := range in {
		out = append(out, int64(n))
	}
	return out
}

// The limit of 2^32 chunks, reached by pretending that most are written.
func TestMostChunks(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 1)
	for _, c := range []struct {
		index int64 // chunks that are pretended
		size  int
		want  error
	}{
		{maxChunks - 1, ChunkSize - 1, nil},
		{maxChunks - 2, ChunkSize, nil},
		{maxChunks - 1, ChunkSize, kmsencrypted.ErrTooLarge},
		{maxChunks, 0, kmsencrypted.ErrTooLarge},
	} {
		var out bytes.Buffer
		w, err := NewWriter(t.Context(), &out, k, Options{})
		if err != nil {
			t.Fatal(err)
		}
		w.index = c.index
		if _, err = w.Write(pattern(c.size)); err == nil {
			err = w.Close()
		}
		if !errors.Is(err, c.want) {
			t.Errorf("writing %d bytes behind %d chunks: %v, want %v", c.size, c.index, err, c.want)
		}
		if again := w.Close(); !errors.Is(again, c.want) {
			t.Errorf("second Close = %v, want %v", again, c.want)
		}
		r, err := NewReader(t.Context(), bytes.NewReader(out.Bytes()), k, Options{})
		if c.want != nil {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		r.index = c.index
		var got bytes.Buffer
		if _, err := r.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), pattern(c.size)) {
			t.Errorf("reading %d bytes behind %d chunks: %d bytes, %v", c.size, c.index, got.Len(), err)
		}
	}
	b, err := newBody(k, make([]byte, saltSize), nil)
	if err != nil {
		t.Fatal(err)
	}
	for index, n := range map[int64]int{maxChunks - 1: sealedChunk, maxChunks: 50} {
		if _, err := b.open(nil, make([]byte, n), index); !errors.Is(err, kmsencrypted.ErrTooLarge) {
			t.Errorf("opening chunk %d of %d bytes: %v, want ErrTooLarge", index, n, err)
		}
	}
}
