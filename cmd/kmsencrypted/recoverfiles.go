package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

type recoverFilesCmd struct {
	Key    string `placeholder:"ID" help:"The recovery key, such as alias/recovery or local:keys.txt. Without it: the versions of the configuration file."`
	Number int    `name:"as-version" default:"1" placeholder:"N" help:"With --key: the number of the version."`
	Store  string `required:"" placeholder:"NAME" help:"The store, as in the program's Recovery.Store."`
	Bucket string `required:"" placeholder:"NAME" help:"The bucket, as in the program's Config.Buckets."`
	From   string `arg:"" help:"The folder of the bucket, or one into which a bucket was copied."`
	To     string `arg:"" help:"The folder for the files. It must not exist."`
}

func (recoverFilesCmd) Help() string {
	return `Decrypts the attached files that a bucket has, without a database. The files that it
writes are not encrypted. They are in TO/table/record/attachment, and include files that
were replaced or deleted and not swept yet. Example:

  aws s3 sync s3://shop-files copy
  kmsencrypted recover-files --key alias/recovery --store shop --bucket main copy plain

Exit codes: 0 every file was written, 2 not so.`
}

func (c *recoverFilesCmd) Run(ctx context.Context, s *rotatecli.Session, g *grammar) error {
	box, err := boxFlags{Key: c.Key}.box(ctx, g, s, c.Number, "native")
	if err != nil {
		return err
	}
	from, err := openFolder(c.From)
	if err != nil {
		return err
	}
	if err := os.Mkdir(c.To, 0o700); err != nil {
		return err
	}
	to, err := os.OpenRoot(c.To)
	if err != nil {
		return err
	}
	defer to.Close()
	written, failed := 0, 0
	for f, err := range (attach.Recovery{Box: box, Store: c.Store}).Files(ctx, c.Bucket, from) {
		if err == nil {
			err = errors.Join(extract(ctx, to, f), f.Close())
		}
		if err != nil {
			failed++
			fmt.Fprintf(s.Stderr, "%v\n", err)
			continue
		}
		written++
	}
	fmt.Fprintf(s.Stdout, "%d files written, %d failed\n", written, failed)
	if err := ctx.Err(); err != nil {
		return err
	}
	if failed > 0 {
		return rotatecli.ErrFailures
	}
	return nil
}

// extract writes a file in plaintext.
func extract(ctx context.Context, to *os.Root, f *attach.Recoverable) error {
	src, err := f.Open(ctx)
	if err != nil {
		return err
	}
	defer src.Close()
	a := f.Attachment
	folder := path.Join(part(a.Table), part(strings.Join(a.RecordID, ",")), part(a.Name), part(a.Variant))
	if err := to.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	// The object is in the name, because a replaced file has the ID of the later one.
	object := a.Object[:min(8, len(a.Object))] + " "
	name := path.Join(folder, object+cut(attach.CleanName(a.FileName), maxName-len(object)))
	dst, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err = errors.Join(err, dst.Close()); err != nil {
		return errors.Join(err, to.Remove(name))
	}
	return nil
}

// maxName is the limit of file systems for one part of a path, in bytes.
const maxName = 255

// cut shortens the name of a file to so many bytes and keeps its extension.
func cut(name string, most int) string {
	if len(name) <= most {
		return name
	}
	extension := path.Ext(name)
	if len(extension) > 20 {
		extension = ""
	}
	end := most - len(extension)
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end] + extension
}

// part makes one part of a path from a text. One that is too long ends with a hash of the
// text, so that two texts never share a folder.
func part(text string) string {
	escaped := url.PathEscape(text)
	if strings.Trim(escaped, ".") == "" {
		escaped = strings.ReplaceAll(escaped, ".", "%2E")
	}
	if len(escaped) <= maxName {
		return escaped
	}
	hash := fmt.Sprintf("~%x", sha256.Sum256([]byte(text)))
	var short strings.Builder
	for _, r := range text {
		next := url.PathEscape(string(r))
		if short.Len()+len(next)+len(hash) > maxName {
			break
		}
		short.WriteString(next)
	}
	return short.String() + hash
}

// folder is a bucket to read: files of any layout, known by the last part of their paths.
type folder struct {
	root  *os.Root
	paths map[string]string
}

func openFolder(name string) (*folder, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	f := &folder{root, make(map[string]string)}
	err = fs.WalkDir(root.FS(), ".", func(file string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			f.paths[path.Base(file)] = file
		}
		return err
	})
	return f, err
}

func (f *folder) List(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for name := range f.paths {
			if !yield(name, nil) {
				return
			}
		}
	}
}

func (f *folder) Open(_ context.Context, name string) (attach.Object, error) {
	file, ok := f.paths[name]
	if !ok {
		return nil, fmt.Errorf("object %s: %w", name, fs.ErrNotExist)
	}
	opened, err := f.root.Open(file)
	if err != nil {
		return nil, err
	}
	info, err := opened.Stat()
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return object{opened, info.Size()}, nil
}

func (f *folder) Put(context.Context, string, func(io.Writer) error) error { return errReadOnly }
func (f *folder) Delete(context.Context, string) error                     { return errReadOnly }

var errReadOnly = fmt.Errorf("the bucket is only read: %w", kmsencrypted.ErrConfig)

type object struct {
	*os.File
	size int64
}

func (o object) Size() int64 { return o.size }
