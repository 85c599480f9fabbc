// Package thumbnail makes small pictures of attached ones, for [attach.Manager.Derive]:
//
//	pending, err := attachments.Derive(ctx, &c, picture, "small", attach.Options{}, thumbnail.Of(thumbnail.Options{}))
//
// It uses the decoders of the standard library for JPEG, PNG and GIF, and those that
// the program registers with package image. Nothing is written in the clear: the
// picture is decoded in memory, and the small one is encrypted as it is encoded. For
// other files, such as videos, pass a [Deriver] of your own to Derive.
package thumbnail

import (
	"fmt"
	"image"
	_ "image/gif"
	"image/jpeg"
	"image/png"
	"io"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// Deriver makes a file from an attached one: it reads src and writes the derived file to
// dst, which encrypts it. [attach.Manager.Derive] takes it. src is also an [io.ReaderAt];
// its ContentType says what it may be. An error of the Deriver leaves nothing behind.
type Deriver = func(dst io.Writer, src *attach.File) error

// Options describe the small picture. The zero value suits most programs.
type Options struct {
	// Width and Height are the size in pixels of the box that it fits into; 0 means
	// 256. A picture that fits already keeps its size.
	Width, Height int
	// MaxPixels is the number of pixels of the largest picture that is decoded; 0 means
	// 25 million. Decoding takes several bytes for each, so a small file could otherwise
	// take all memory. It also bounds the time: a JPEG may have 64 scans, each over all
	// pixels, which take some seconds of 25 million. The context of Derive ends the work
	// earlier. Decoders that the program registers must have bounds of their own.
	MaxPixels int64
}

const (
	defaultSide   = 256
	defaultPixels = 25_000_000
	// quality of JPEG: a small picture at 75 shows its blocks.
	quality = 85
)

// Of returns a function that makes the small picture: PNG if the picture is not
// opaque, else JPEG. It shows the first picture of an animation, and turns a JPEG as its
// Exif orientation says. The metadata, such as where a photo was taken, are not copied.
//
// The function returns [kmsencrypted.ErrTooLarge] for a picture of more than
// MaxPixels or 64 scans, [kmsencrypted.ErrConfig] for negative options, [image.ErrFormat] for a
// file that no decoder knows, and the errors of the decoder and of the file.
func Of(o Options) Deriver {
	return func(dst io.Writer, src *attach.File) error {
		if err := o.make(dst, src); err != nil {
			return fmt.Errorf("thumbnail: %w", err)
		}
		return nil
	}
}

func (o Options) make(dst io.Writer, src io.ReadSeeker) error {
	if o.Width < 0 || o.Height < 0 || o.MaxPixels < 0 {
		return fmt.Errorf("%w: a negative size", kmsencrypted.ErrConfig)
	}
	if o.Width == 0 {
		o.Width = defaultSide
	}
	if o.Height == 0 {
		o.Height = defaultSide
	}
	if o.MaxPixels == 0 {
		o.MaxPixels = defaultPixels
	}
	// The size is in the header, so it is known before memory is taken.
	config, _, err := image.DecodeConfig(src)
	if err != nil {
		return err
	}
	if config.Width <= 0 || config.Height <= 0 || int64(config.Width) > o.MaxPixels/int64(config.Height) {
		return fmt.Errorf("%w: a picture of %d by %d pixels, want at most %d pixels", kmsencrypted.ErrTooLarge, config.Width, config.Height, o.MaxPixels)
	}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return err
	}
	turn, err := inspect(src)
	if err != nil {
		return err
	}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return err
	}
	picture, _, err := image.Decode(inSteps{src})
	if err != nil {
		return err
	}
	if turn >= 5 { // on its side: the box too
		o.Width, o.Height = o.Height, o.Width
	}
	small := turned(scaled(picture, o.Width, o.Height), turn)
	if small.Opaque() {
		return jpeg.Encode(dst, small, &jpeg.Options{Quality: quality})
	}
	return png.Encode(dst, small)
}

// inSteps reads little at a time. A decoder may work for long on few bytes, and asks the
// file for more only when it has used them up: that is when an end of the file's context
// stops it.
type inSteps struct{ io.Reader }

func (r inSteps) Read(p []byte) (int, error) {
	const step = 256
	return r.Reader.Read(p[:min(len(p), step)])
}

// fit returns the largest size in a box of w by h with the proportions of a picture,
// which is not enlarged.
func fit(picture image.Rectangle, w, h int) (int, int) {
	w, h = min(w, picture.Dx()), min(h, picture.Dy()) // now the products fit into 64 bits
	pw, ph := int64(picture.Dx()), int64(picture.Dy())
	if pw*int64(h) > ph*int64(w) {
		return w, max(1, int((ph*int64(w)+pw/2)/pw))
	}
	return max(1, int((pw*int64(h)+ph/2)/ph)), h
}

// scaled makes each pixel the mean of those that it stands for.
func scaled(picture image.Image, w, h int) *image.RGBA {
	from := picture.Bounds()
	w, h = fit(from, w, h)
	small := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		top, bottom := part(y, h, from.Dy())
		for x := range w {
			left, right := part(x, w, from.Dx())
			var sum [4]uint64
			for sy := top; sy < bottom; sy++ {
				for sx := left; sx < right; sx++ {
					r, g, b, a := picture.At(from.Min.X+sx, from.Min.Y+sy).RGBA()
					sum[0], sum[1], sum[2], sum[3] = sum[0]+uint64(r), sum[1]+uint64(g), sum[2]+uint64(b), sum[3]+uint64(a)
				}
			}
			n := uint64(bottom-top) * uint64(right-left)
			at := small.Pix[small.PixOffset(x, y):]
			for i := range sum {
				at[i] = uint8(sum[i] / n >> 8)
			}
		}
	}
	return small
}

// part returns the part of size pixels that pixel i of n stands for; never empty,
// because n is at most size.
func part(i, n, size int) (start, end int) {
	return int(int64(i) * int64(size) / int64(n)), int(int64(i+1) * int64(size) / int64(n))
}
