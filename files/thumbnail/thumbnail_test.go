package thumbnail

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// halves is a picture whose left half is red and whose right half is blue.
func halves(w, h int, alpha uint8) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(-3, 5, w-3, h+5)) // not at the origin
	for y := range h {
		for x := range w {
			c := color.NRGBA{R: 200, A: alpha}
			if x >= w/2 {
				c = color.NRGBA{B: 200, A: alpha}
			}
			m.SetNRGBA(x-3, y+5, c)
		}
	}
	return m
}

func encoded(t testing.TB, format string, m image.Image) []byte {
	t.Helper()
	var out bytes.Buffer
	err := map[string]func() error{
		"png":  func() error { return png.Encode(&out, m) },
		"jpeg": func() error { return jpeg.Encode(&out, m, nil) },
		"gif":  func() error { return gif.Encode(&out, m, nil) },
	}[format]()
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestThumbnails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		format       string
		w, h         int
		alpha        uint8
		o            Options
		wantW, wantH int
		want         string
	}{
		{"png", 1000, 500, 255, Options{}, 256, 128, "jpeg"},
		{"png", 500, 1000, 255, Options{}, 128, 256, "jpeg"},
		{"png", 1000, 500, 128, Options{Width: 100, Height: 100}, 100, 50, "png"},
		{"jpeg", 1001, 333, 255, Options{Width: 300, Height: 50}, 150, 50, "jpeg"},
		{"gif", 700, 700, 255, Options{Width: 10}, 10, 10, "jpeg"},
		{"png", 40, 30, 255, Options{}, 40, 30, "jpeg"},
		{"png", 3000, 2, 255, Options{Width: 30, Height: 30}, 30, 1, "jpeg"},
		{"png", 2, 3000, 255, Options{Width: 30, Height: 30}, 1, 30, "jpeg"},
	} {
		var out bytes.Buffer
		if err := c.o.make(&out, bytes.NewReader(encoded(t, c.format, halves(c.w, c.h, c.alpha)))); err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		m, format, err := image.Decode(&out)
		if err != nil || format != c.want || m.Bounds() != image.Rect(0, 0, c.wantW, c.wantH) {
			t.Errorf("%+v: a %s of %v, %v", c, format, m.Bounds(), err)
			continue
		}
		if c.wantW < 4 {
			continue
		}
		for x, red := range map[int]bool{c.wantW / 4: true, c.wantW * 3 / 4: false} {
			r, _, b, a := m.At(x, c.wantH/2).RGBA()
			if red != (r > b) || max(r, b)*255/a < 170 || uint32(c.alpha)-a>>8+2 > 4 {
				t.Errorf("%+v: at %d red is %d, blue %d, alpha %d", c, x, r>>8, b>>8, a>>8)
			}
		}
	}
}

// A small file that would unpack to a large picture is refused by its header.
func TestBombs(t *testing.T) {
	t.Parallel()
	good := encoded(t, "png", halves(100, 100, 255))
	sized := func(w, h uint32) []byte {
		bomb := bytes.Clone(good)
		binary.BigEndian.PutUint32(bomb[16:], w)
		binary.BigEndian.PutUint32(bomb[20:], h)
		binary.BigEndian.PutUint32(bomb[29:], crc32.ChecksumIEEE(bomb[12:29]))
		return bomb
	}
	var out bytes.Buffer
	for _, size := range [][2]uint32{{100_000, 100_000}, {5001, 5000}, {1 << 30, 1}} {
		if err := (Options{}).make(&out, bytes.NewReader(sized(size[0], size[1]))); !errors.Is(err, kmsencrypted.ErrTooLarge) {
			t.Errorf("a picture of %v pixels: %v, want ErrTooLarge", size, err)
		}
	}
	if err := (Options{MaxPixels: 9999}).make(&out, bytes.NewReader(good)); !errors.Is(err, kmsencrypted.ErrTooLarge) {
		t.Errorf("one pixel too many: %v, want ErrTooLarge", err)
	}
	if err := (Options{MaxPixels: 1}).make(&out, bytes.NewReader([]byte("%PDF-1.7"))); !errors.Is(err, image.ErrFormat) {
		t.Errorf("no picture: %v, want image.ErrFormat", err)
	}
	if err := (Options{}).make(&out, bytes.NewReader(good[:len(good)-30])); err == nil {
		t.Error("a picture that is cut: no error")
	}
	if err := (Options{Width: -1}).make(&out, bytes.NewReader(good)); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("a negative width: %v, want ErrConfig", err)
	}
	if out.Len() > 0 {
		t.Errorf("%d bytes were written", out.Len())
	}
	if err := (Options{MaxPixels: 10_000}).make(&out, bytes.NewReader(good)); err != nil {
		t.Errorf("exactly as many pixels: %v", err)
	}
}
