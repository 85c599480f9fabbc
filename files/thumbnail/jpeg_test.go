package thumbnail

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image/png"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// manyScans is a grey progressive JPEG that has each of its pixels in every scan, at a
// cost of 15 bits for 32,767 blocks. between is put in front of each scan.
func manyScans(side uint16, scans int, between ...byte) []byte {
	segment := func(out []byte, marker byte, body ...byte) []byte {
		out = binary.BigEndian.AppendUint16(append(out, 0xff, marker), uint16(len(body)+2))
		return append(out, body...)
	}
	out := []byte{0xff, 0xd8}
	out = segment(out, 0xdb, append([]byte{0}, bytes.Repeat([]byte{1}, 64)...)...)
	out = segment(out, 0xc2, 8, byte(side>>8), byte(side), byte(side>>8), byte(side), 1, 1, 0x11, 0)
	table := func(class, value byte) []byte { return append(append([]byte{class, 1}, make([]byte, 15)...), value) }
	out = segment(out, 0xc4, table(0x00, 0)...)
	out = segment(out, 0xc4, table(0x10, 0xe0)...) // the run of 2^14 blocks and more that have nothing
	blocks := (int(side) + 7) / 8 * ((int(side) + 7) / 8)
	for range scans {
		out = segment(append(out, between...), 0xda, 1, 1, 0, 1, 63, 0)
		runs := (blocks + 1<<15 - 2) / (1<<15 - 1)
		bits := strings.Repeat("0"+strings.Repeat("1", 14), runs) + "1111111" // the code and the length of each run
		for ; len(bits) >= 8; bits = bits[8:] {
			b, _ := strconv.ParseUint(bits[:8], 2, 8)
			if out = append(out, byte(b)); b == 0xff {
				out = append(out, 0)
			}
		}
	}
	return append(out, 0xff, 0xd9)
}

// A JPEG of a few kilobytes that has all of its pixels in thousands of scans would take
// minutes within MaxPixels.
func TestManyScans(t *testing.T) {
	t.Parallel()
	start := time.Now()
	for name, between := range map[string][]byte{"": nil, "rubbish between them": {1, 2, 3}, "a marker without a length": {0xff, 0xd0}, "filling": {0xff, 0xff, 0xff}} {
		bomb := manyScans(4992, 5000, between...)
		err := (Options{}).make(io.Discard, bytes.NewReader(bomb))
		if !errors.Is(err, kmsencrypted.ErrTooLarge) {
			t.Errorf("%d bytes with 5000 scans, %s: %v, want ErrTooLarge", len(bomb), name, err)
		}
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("refusing took %v", took)
	}
	start = time.Now()
	err := (Options{}).make(io.Discard, bytes.NewReader(manyScans(4992, maxScans)))
	t.Logf("%d scans of 25 million pixels took %v: %v", maxScans, time.Since(start), err)
}

// canceling ends its context once it has been read up to a place, and fails then.
type canceling struct {
	*bytes.Reader
	ctx    context.Context
	cancel func()
	passes int // over the start of the file
	place  int64
}

func (c *canceling) Read(p []byte) (int, error) {
	if at := c.Size() - int64(c.Len()); at == 0 {
		c.passes++
	} else if c.passes == 3 && at >= c.place {
		c.cancel()
	}
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}

// The end of a context stops a decoder that works for long on few bytes.
func TestCanceledWhileDecoding(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	file := manyScans(64, maxScans)
	src := &canceling{Reader: bytes.NewReader(file), ctx: ctx, cancel: cancel, place: int64(len(file)) / 4}
	if err := (Options{}).make(io.Discard, src); !errors.Is(err, context.Canceled) {
		t.Errorf("a picture of %d bytes whose context ends after %d: %v, want context.Canceled", len(file), src.place, err)
	}
}

// A box larger than every picture leaves them as they are.
func TestLargestBox(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ w, h, width, height, wantW, wantH int }{
		{100, 50, math.MaxInt, math.MaxInt, 100, 50},
		{100, 50, 10, math.MaxInt, 10, 5},
		{50, 100, math.MaxInt, 10, 5, 10},
		{100, 50, math.MaxInt, 1, 2, 1},
		{3, 3, math.MaxInt - 1, 2, 2, 2},
	} {
		var out bytes.Buffer
		if err := (Options{Width: c.width, Height: c.height, MaxPixels: math.MaxInt64}).make(&out, bytes.NewReader(encoded(t, "png", halves(c.w, c.h, 128)))); err != nil {
			t.Fatal(err)
		}
		if m, err := png.Decode(&out); err != nil || m.Bounds().Dx() != c.wantW || m.Bounds().Dy() != c.wantH {
			t.Errorf("%+v: %v, %v", c, m.Bounds(), err)
		}
	}
}
