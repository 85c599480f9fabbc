package gocloud

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

const maxPage = 1000

// pageToken marks the end of a page: after the key After, in the store's page that
// begins at Store. The store's page is longer, because it includes sidecars, and
// the store's own token only marks its end.
type pageToken struct {
	Store []byte
	After string
}

// ListPaged lists objects without their sidecars.
func (d driverBucket) ListPaged(ctx context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	if err := checkPrefix(o.Prefix); err != nil {
		return nil, err
	}
	want := o.PageSize
	if want == 0 {
		want = maxPage
	}
	token := pageToken{Store: blob.FirstPageToken}
	if len(o.PageToken) > 0 && json.Unmarshal(o.PageToken, &token) != nil {
		return nil, fmt.Errorf("gocloud: page token: %w", kmsencrypted.ErrConfig)
	}
	options := &blob.ListOptions{Prefix: o.Prefix, Delimiter: o.Delimiter, BeforeList: o.BeforeList}
	fold := folder{prefix: o.Prefix}
	if n := len(o.Delimiter); n > 0 && strings.IndexByte(sidecarDigits, o.Delimiter[n-1]) >= 0 {
		// In the store's list a sidecar could look like a folder.
		fold.delimiter, options.Delimiter = o.Delimiter, ""
	}
	page := new(driver.ListPage)
	after := token.After // not valid beyond its page of the store
	// Ask for one more than two per object, so that the end usually shows.
	size := min(2*want+1, maxPage)
	for {
		objects, next, err := d.inner.ListPage(ctx, token.Store, size, options)
		if err != nil && err != io.EOF {
			return nil, err
		}
		for _, object := range objects {
			key, isDir, ok := fold.key(object)
			if !ok || after != "" && key <= after || isDir && key == token.After {
				continue
			}
			if len(page.Objects) == want {
				page.NextPageToken, err = json.Marshal(token)
				return page, err
			}
			page.Objects = append(page.Objects, listed(object, key, isDir))
			token.After = key
		}
		if len(next) == 0 {
			return page, nil
		}
		token.Store, after = next, ""
	}
}

// folder groups keys into folders, because the store does not.
type folder struct{ prefix, delimiter string }

// key returns the key that an object is listed under. It returns false for a
// sidecar.
func (f folder) key(o *blob.ListObject) (key string, isDir, ok bool) {
	if o.IsDir {
		return o.Key, true, true
	}
	if _, _, sidecar := splitSidecar(o.Key); sidecar {
		return "", false, false
	}
	if f.delimiter != "" {
		if i := strings.Index(o.Key[len(f.prefix):], f.delimiter); i >= 0 {
			return o.Key[:len(f.prefix)+i+len(f.delimiter)], true, true
		}
	}
	return o.Key, false, true
}

func listed(o *blob.ListObject, key string, isDir bool) *driver.ListObject {
	if isDir {
		return &driver.ListObject{Key: key, IsDir: true, AsFunc: o.As}
	}
	size, err := files.OpenedSize(o.Size)
	if err != nil {
		size = 0 // not an object of ours; reading it returns the error
	}
	return &driver.ListObject{Key: key, ModTime: o.ModTime, Size: size, AsFunc: o.As}
}
