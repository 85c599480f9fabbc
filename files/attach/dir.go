package attach

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"time"
)

// Dir is a [Bucket] in a folder. It stores an object at the path that Active
// Storage's Disk service uses, "ab/cd/abcd…". Put writes to a temporary file in the
// same folder, syncs it, gives it its name and syncs the folders, so what Put confirmed
// survives a crash of the machine. Of several that put one name at once, one succeeds,
// unless the file system has no hard links. Only the user of the process may read the files.
type Dir struct{ root *os.Root }

// partSuffix ends the name of an object that is still being written.
const partSuffix = ".part"

// OpenDir returns a bucket in a folder, which it creates if it is missing. Object
// names cannot lead outside the folder, not even through symbolic links. The caller
// closes the bucket.
//
// The layout is that of Active Storage, so some names that other stores take are
// [fs.ErrInvalid]: those of fewer than four bytes, those whose first or second two bytes
// cannot name a folder, as "a/" and "..", and those that end with ".part".
//
// A folder on a disk that is not mounted looks like an empty one. A [Manager] finds that
// out by its identity, and says [ErrStore] where an object is not found; a program that uses
// a Dir alone compares [Dir.Identity] with what it was.
func OpenDir(name string) (*Dir, error) {
	if err := os.MkdirAll(name, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &Dir{root}, nil
}

// Close closes the folder. Open objects stay open.
func (d *Dir) Close() error {
	if err := d.usable(); err != nil {
		return err
	}
	return d.root.Close()
}

// pathOf returns the path of an object.
func pathOf(name string) (string, error) {
	if len(name) < 4 || !fs.ValidPath(name) || strings.HasSuffix(name, partSuffix) {
		return "", fmt.Errorf("attach: object name %q: %w", name, fs.ErrInvalid)
	}
	p := name[:2] + "/" + name[2:4] + "/" + name
	if !fs.ValidPath(p) {
		return "", fmt.Errorf("attach: object name %q: %w", name, fs.ErrInvalid)
	}
	return p, nil
}

// Put implements [Bucket].
func (d *Dir) Put(ctx context.Context, name string, write func(io.Writer) error) error {
	if err := errors.Join(d.usable(), allGiven([]any{write})); err != nil {
		return err
	}
	file, err := pathOf(name)
	if err != nil {
		return err
	}
	if _, err := d.root.Lstat(file); err == nil {
		return fmt.Errorf("attach: object %s: %w", name, fs.ErrExist)
	}
	part := partOf(file)
	created, err := d.create(part)
	if err != nil {
		return err
	}
	defer d.root.Remove(part) // also if write panics; after the last step it is gone
	defer created.Close()
	if err := fill(ctx, created, write); err != nil {
		return err
	}
	if err := d.finish(part, file); err != nil {
		return fmt.Errorf("attach: object %s: %w", name, err)
	}
	if err := d.sync(path.Dir(file)); err != nil {
		return errors.Join(err, removed(d.root.Remove(file)))
	}
	return nil
}

// finish gives a written file its name, unless another one has it.
func (d *Dir) finish(part, file string) error {
	err := d.root.Link(part, file)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return errors.Join(err, d.root.Remove(part))
	}
	// The file system has no links. Of several uploads of one name the last then wins.
	if _, taken := d.root.Lstat(file); taken == nil {
		return fs.ErrExist
	}
	return d.root.Rename(part, file)
}

// partOf returns a new name for an object that is being written: ".", 8 letters and
// digits and partSuffix follow its own. An upload that was killed so leaves nothing that
// the next one of that name meets.
func partOf(file string) string { return file + "." + strings.ToLower(rand.Text()[:8]) + partSuffix }

// isPartOf reports whether a file of a folder is one that partOf names, or an older
// release, which had the suffix alone.
func isPartOf(file, object string) bool {
	if file == object+partSuffix {
		return true
	}
	random, ok := strings.CutPrefix(strings.TrimSuffix(file, partSuffix), object+".")
	return ok && strings.HasSuffix(file, partSuffix) && len(random) == 8 && !strings.Contains(random, ".")
}

// createNew opens a file that must not exist.
const createNew = os.O_WRONLY | os.O_CREATE | os.O_EXCL

// create creates a file and its folders. Delete may remove a folder in between.
func (d *Dir) create(file string) (created *os.File, err error) {
	for range 100 {
		if err = d.makeFolders(path.Dir(file)); err == nil {
			created, err = d.root.OpenFile(file, createNew, 0o600)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return created, err
}

// fill writes the file and closes it.
func fill(ctx context.Context, file *os.File, write func(io.Writer) error) error {
	buffered := bufio.NewWriterSize(cancelable{ctx, file}, 256<<10)
	err := write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

// cancelable is a writer that fails once its context is done.
type cancelable struct {
	ctx context.Context
	w   io.Writer
}

func (c cancelable) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// makeFolders creates a folder and its parents, and syncs the parent of each new
// one.
func (d *Dir) makeFolders(name string) error {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		switch err := d.root.Mkdir(name[:i], 0o700); {
		case err == nil:
			if err := d.sync(path.Dir(name[:i])); err != nil {
				return err
			}
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
	return nil
}

// sync makes the entries of a folder durable.
func (d *Dir) sync(folder string) error {
	f, err := d.root.Open(folder)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// removed ignores the error for a file that does not exist.
func removed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Open implements [Bucket].
func (d *Dir) Open(ctx context.Context, name string) (Object, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	file, err := pathOf(name)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := d.root.Open(file)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("attach: object %s is no file: %w", name, fs.ErrInvalid)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return dirObject{f, info.Size()}, nil
}

// Delete implements [Bucket].
func (d *Dir) Delete(ctx context.Context, name string) error {
	if err := d.usable(); err != nil {
		return err
	}
	file, err := pathOf(name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	left, err := d.parts(file)
	if err != nil {
		return err
	}
	for _, name := range append(left, file) {
		if err := removed(d.root.Remove(name)); err != nil {
			return err
		}
	}
	// Remove the folders if this was the last object in them. Otherwise it fails.
	for folder := path.Dir(file); folder != "." && d.root.Remove(folder) == nil; folder = path.Dir(folder) {
	}
	return nil
}

// parts returns what uploads of an object have written so far.
func (d *Dir) parts(file string) (list []string, err error) {
	entries, err := fs.ReadDir(d.root.FS(), path.Dir(file))
	for _, entry := range entries {
		if isPartOf(entry.Name(), path.Base(file)) {
			list = append(list, path.Dir(file)+"/"+entry.Name())
		}
	}
	return list, removed(err)
}

// Prune deletes what uploads have left that were killed, and returns the number of files.
// Nobody else finds them if nobody deletes the object: [Manager.Sweep] does, but not a
// program that chooses the names itself. It keeps those written to within age, which must
// be at least an hour: their upload may be under way.
func (d *Dir) Prune(ctx context.Context, age time.Duration) (deleted int64, err error) {
	if err := d.usable(); err != nil {
		return 0, err
	}
	if age < time.Hour {
		return 0, configError("prune: an age of %v, want at least an hour", age)
	}
	before := time.Now().Add(-age)
	err = fs.WalkDir(d.root.FS(), ".", func(file string, entry fs.DirEntry, err error) error {
		if err = errors.Join(removed(err), ctx.Err()); err != nil || entry == nil || !strings.HasSuffix(file, partSuffix) || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil || !info.ModTime().Before(before) {
			return removed(err)
		}
		if err := d.root.Remove(file); err != nil {
			return removed(err)
		}
		deleted++
		return nil
	})
	return deleted, err
}

// List implements [Lister].
func (d *Dir) List(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := d.usable(); err != nil {
			yield("", err)
			return
		}
		err := fs.WalkDir(d.root.FS(), ".", func(file string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // deleted meanwhile
			}
			if err = errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			name := ""
			if parts := strings.SplitN(file, "/", 3); len(parts) == 3 { // a name may have slashes
				name = parts[2]
			}
			if is, err := pathOf(name); err == nil && is == file && entry.Type().IsRegular() && !yield(name, nil) {
				return errListed
			}
			return nil
		})
		if err != nil && err != errListed {
			yield("", err)
		}
	}
}

// errListed ends a walk whose caller wants no more.
var errListed = errors.New("attach: listed enough")

type dirObject struct {
	*os.File
	size int64
}

func (o dirObject) Size() int64 { return o.size }
