package thumbnail

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/kmsencrypted/kmsencrypted"
)

// maxScans limits the scans of a JPEG. Encoders make about 10 of a progressive picture.
// Each may cover all pixels with a few bytes, so a small file could otherwise take
// minutes.
const maxScans = 64

// The markers of a JPEG (T.81, table B.1) that matter here.
const (
	startOfImage = 0xd8
	endOfImage   = 0xd9
	startOfScan  = 0xda
	exifSegment  = 0xe1
)

// inspect returns the orientation of a JPEG: upright for every other file, and for
// metadata that are damaged. It returns [kmsencrypted.ErrTooLarge] for a JPEG of too many
// scans, and the error of r. Like the decoder it skips what stands between segments, so
// that both see the same scans.
func inspect(file io.Reader) (turn int, err error) {
	r := bufio.NewReader(file)
	if start, _ := r.Peek(2); len(start) < 2 || start[0] != 0xff || start[1] != startOfImage {
		return upright, nil
	}
	turn = upright
	for scans, found := 0, false; ; {
		marker, err := nextMarker(r)
		if err != nil || marker == endOfImage {
			return turn, atEnd(err)
		}
		if marker >= 0xd0 && marker <= startOfImage { // without a length
			continue
		}
		if marker == startOfScan {
			if scans++; scans > maxScans {
				return 0, fmt.Errorf("%w: a JPEG of more than %d scans", kmsencrypted.ErrTooLarge, maxScans)
			}
		}
		segment, err := readSegment(r)
		if err != nil {
			return turn, atEnd(err)
		}
		if marker == exifSegment && !found && len(segment) > 6 && string(segment[:6]) == "Exif\x00\x00" {
			turn, found = tiffOrientation(segment[6:]), true
		}
	}
}

// nextMarker skips everything before the next marker: what a scan consists of, and
// rubbish.
func nextMarker(r *bufio.Reader) (byte, error) {
	for before := byte(0); ; {
		b, err := r.ReadByte()
		if err != nil || before == 0xff && b != 0 && b != 0xff {
			return b, err
		}
		before = b
	}
}

func readSegment(r *bufio.Reader) ([]byte, error) {
	var length [2]byte // with itself
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	segment := make([]byte, max(0, int(binary.BigEndian.Uint16(length[:]))-2))
	_, err := io.ReadFull(r, segment)
	return segment, err
}

// atEnd leaves out the error for a file that is cut, which the decoder returns.
func atEnd(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}
