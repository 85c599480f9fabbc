package thumbnail

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// withOrientation puts Exif metadata into a JPEG, with a secret after it.
func withOrientation(picture []byte, order binary.ByteOrder, value uint16) []byte {
	tiff := []byte("MM\x00*")
	if order == binary.LittleEndian {
		tiff = []byte("II*\x00")
	}
	append16 := func(v uint16) { tiff = append(tiff, 0, 0); order.PutUint16(tiff[len(tiff)-2:], v) }
	append32 := func(v uint32) { tiff = append(tiff, 0, 0, 0, 0); order.PutUint32(tiff[len(tiff)-4:], v) }
	append32(8)
	append16(2)
	append16(0x0100) // another tag first
	append16(4)
	append32(1)
	append32(7)
	append16(orientationTag)
	append16(shortType)
	append32(1)
	append16(value)
	append16(0)
	segment := append(append([]byte("Exif\x00\x00"), tiff...), "taken at home"...)
	out := append(bytes.Clone(picture[:2]), 0xff, 0xe1)
	out = binary.BigEndian.AppendUint16(out, uint16(len(segment)+2))
	return append(append(out, segment...), picture[2:]...)
}

// A picture that is red at the top left, when it is looked at as its metadata say,
// gives a small one that is red there, without the metadata.
func TestOrientation(t *testing.T) {
	t.Parallel()
	// where the top left quarter of the upright picture is stored.
	stored := map[uint16]image.Point{1: {0, 0}, 2: {1, 0}, 3: {1, 1}, 4: {0, 1}, 5: {0, 0}, 6: {0, 1}, 7: {1, 1}, 8: {1, 0}}
	for value, corner := range stored {
		for _, order := range []binary.ByteOrder{binary.BigEndian, binary.LittleEndian} {
			w, h := 400, 200 // upright
			if value >= 5 {
				w, h = h, w
			}
			m := image.NewRGBA(image.Rect(0, 0, w, h))
			for y := range h {
				for x := range w {
					c := color.RGBA{B: 200, A: 255}
					if x/(w/2) == corner.X && y/(h/2) == corner.Y {
						c = color.RGBA{R: 200, A: 255}
					}
					m.SetRGBA(x, y, c)
				}
			}
			file := withOrientation(encoded(t, "jpeg", m), order, value)
			if got, err := inspect(bytes.NewReader(file)); err != nil || got != int(value) {
				t.Errorf("orientation %d, %v is read as %d, %v", value, order, got, err)
			}
			var out bytes.Buffer
			if err := (Options{Width: 100, Height: 80}).make(&out, bytes.NewReader(file)); err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(out.Bytes(), []byte("Exif")) || bytes.Contains(out.Bytes(), []byte("home")) {
				t.Errorf("orientation %d: the metadata are in the small picture", value)
			}
			small, err := jpeg.Decode(&out)
			if err != nil || small.Bounds() != image.Rect(0, 0, 100, 50) {
				t.Fatalf("orientation %d: %v, %v, want 100 by 50", value, small.Bounds(), err)
			}
			for _, at := range []image.Point{{25, 12}, {75, 12}, {25, 37}, {75, 37}} {
				r, _, b, _ := small.At(at.X, at.Y).RGBA()
				if red := at == (image.Point{25, 12}); red != (r > b) {
					t.Errorf("orientation %d: at %v red is %d, blue %d", value, at, r>>8, b>>8)
				}
			}
		}
	}
}

// Damaged metadata turn nothing and never fail.
func FuzzOrientation(f *testing.F) {
	good := withOrientation(encoded(f, "jpeg", halves(8, 8, 255)), binary.LittleEndian, 6)
	f.Add(good)
	f.Add(good[:40])
	f.Add(withOrientation(good, binary.BigEndian, 9))
	f.Add([]byte{0xff, 0xd8, 0xff, 0xe1, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := inspect(bytes.NewReader(data)); err == nil && (got < 1 || got > 8) || err != nil && !errors.Is(err, kmsencrypted.ErrTooLarge) {
			t.Fatalf("inspect = %d, %v", got, err)
		}
	})
}
