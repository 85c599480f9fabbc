package thumbnail

import (
	"encoding/binary"
	"image"
)

// A JPEG may say in its Exif metadata how to turn it (Exif 2.32, tag 0x0112). The
// values, by where row 0 and column 0 of the stored picture belong:
//
//	1 top, left     2 top, right    3 bottom, right  4 bottom, left
//	5 left, top     6 right, top    7 right, bottom  8 left, bottom
const (
	upright        = 1
	orientationTag = 0x0112
	shortType      = 3
)

// tiffOrientation finds the tag in the first directory of a TIFF.
func tiffOrientation(tiff []byte) int {
	if len(tiff) < 8 {
		return upright
	}
	var order binary.ByteOrder = binary.BigEndian
	if string(tiff[:2]) == "II" {
		order = binary.LittleEndian
	} else if string(tiff[:2]) != "MM" {
		return upright
	}
	at := int64(order.Uint32(tiff[4:]))
	if at < 8 || at > int64(len(tiff)-2) {
		return upright
	}
	const entrySize = 12 // tag u16, type u16, count u32, value 4
	entries := tiff[at+2:]
	for range order.Uint16(tiff[at:]) {
		if len(entries) < entrySize {
			break
		}
		if order.Uint16(entries) == orientationTag {
			value := int(order.Uint16(entries[8:]))
			if order.Uint16(entries[2:]) != shortType || order.Uint32(entries[4:]) != 1 || value < 1 || value > 8 {
				return upright
			}
			return value
		}
		entries = entries[entrySize:]
	}
	return upright
}

// turned returns a picture as its orientation says.
func turned(m *image.RGBA, orientation int) *image.RGBA {
	if orientation == upright {
		return m
	}
	w, h := m.Rect.Dx(), m.Rect.Dy()
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	if orientation >= 5 {
		out = image.NewRGBA(image.Rect(0, 0, h, w))
	}
	for y := range h {
		for x := range w {
			right, down := w-1-x, h-1-y
			to := [...]image.Point{2: {right, y}, 3: {right, down}, 4: {x, down}, 5: {y, x}, 6: {down, x}, 7: {down, right}, 8: {y, right}}[orientation]
			copy(out.Pix[out.PixOffset(to.X, to.Y):][:4], m.Pix[m.PixOffset(x, y):])
		}
	}
	return out
}
