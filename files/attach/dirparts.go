package attach

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// An object that is uploaded in parts to a folder is one file, into which the parts are
// written at their places, and a second one with the size and the SHA-256 of each part, in the
// order of their numbers. That of a part is written when the part is on the disk. Both names
// are those of objects that are being written, so Delete and Prune find them.
const partRecord = 8 + sha256.Size

// partFiles are the paths of an object and of its upload.
type partFiles struct{ object, parts, records string }

func (d *Dir) partFiles(ctx context.Context, name, upload string) (f partFiles, err error) {
	if err := errors.Join(d.usable(), ctx.Err()); err != nil {
		return f, err
	}
	if f.object, err = pathOf(name); err != nil {
		return f, err
	}
	if f.parts = f.object + "." + upload + partSuffix; !isPartOf(f.parts, f.object) || strings.Contains(upload, "/") {
		return f, fmt.Errorf("attach: upload %q of object %s: %w", upload, name, fs.ErrInvalid)
	}
	f.records = f.object + "." + upload[:7] + "1" + partSuffix // partOf uses no 1
	return f, nil
}

// BeginParts implements [PartBucket].
func (d *Dir) BeginParts(ctx context.Context, name string) (upload string, err error) {
	if err := errors.Join(d.usable(), ctx.Err()); err != nil {
		return "", err
	}
	object, err := pathOf(name)
	if err != nil {
		return "", err
	}
	part := partOf(object)
	f, err := d.create(part)
	if err != nil {
		return "", err
	}
	upload = strings.TrimSuffix(strings.TrimPrefix(part, object+"."), partSuffix)
	return upload, errors.Join(f.Close(), d.sync(path.Dir(part)))
}

// PutPart implements [PartBucket].
func (d *Dir) PutPart(ctx context.Context, name, upload string, p Part, content []byte) error {
	files, err := d.partFiles(ctx, name, upload)
	if err != nil {
		return err
	}
	if err := d.writeAt(files.parts, 0, content, p.Offset); err != nil {
		return err
	}
	record := binary.BigEndian.AppendUint64(nil, uint64(len(content)))
	sum := sha256.Sum256(content)
	if err := d.writeAt(files.records, os.O_CREATE, append(record, sum[:]...), int64(p.Number-1)*partRecord); err != nil {
		return err
	}
	return d.sync(path.Dir(files.records))
}

// writeAt writes to a file and waits for the disk.
func (d *Dir) writeAt(name string, flag int, content []byte, offset int64) error {
	f, err := d.root.OpenFile(name, os.O_WRONLY|flag, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, offset)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// ListParts implements [PartBucket].
func (d *Dir) ListParts(ctx context.Context, name, upload string) (list []Part, err error) {
	files, err := d.partFiles(ctx, name, upload)
	if err != nil {
		return nil, err
	}
	if _, err := d.root.Lstat(files.parts); err != nil {
		return nil, err
	}
	records, err := d.root.ReadFile(files.records)
	if err := removed(err); err != nil {
		return nil, err
	}
	for n := 1; len(records) >= partRecord; n++ {
		if !bytes.Equal(records[:partRecord], make([]byte, partRecord)) {
			list = append(list, Part{Number: n, Size: int64(binary.BigEndian.Uint64(records)), SHA256: [sha256.Size]byte(records[8:partRecord])})
		}
		records = records[partRecord:]
	}
	return list, nil
}

// CompleteParts implements [PartBucket].
func (d *Dir) CompleteParts(ctx context.Context, name, upload string, parts []Part) error {
	files, err := d.partFiles(ctx, name, upload)
	if err != nil {
		return err
	}
	info, err := d.root.Lstat(files.parts)
	if err != nil {
		return err
	}
	size := int64(0)
	for _, p := range parts {
		size += p.Size
	}
	if info.Size() != size {
		return fmt.Errorf("%w: they have %d bytes, and the file %d", ErrPartMissing, size, info.Size())
	}
	if err := d.finish(files.parts, files.object); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("attach: object %s: %w", name, err)
	}
	return errors.Join(d.sync(path.Dir(files.object)), removed(d.root.Remove(files.records)))
}

// AbortParts implements [PartBucket].
func (d *Dir) AbortParts(ctx context.Context, name, _ string) error {
	if err := errors.Join(d.usable(), ctx.Err()); err != nil {
		return err
	}
	object, err := pathOf(name)
	if err != nil {
		return err
	}
	left, err := d.parts(object)
	for _, part := range left {
		err = errors.Join(err, removed(d.root.Remove(part)))
	}
	return err
}

var _ interface {
	PartBucket
	io.Closer
} = (*Dir)(nil)
