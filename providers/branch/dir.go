package branch

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/durable"
	"github.com/kmsencrypted/kmsencrypted/internal/filelock"
)

// A key store in a folder, for small installations:
//
//	store.json                       identity and limits
//	lock                             held while something changes
//	branches/HASH/VERSION.json       one row; HASH is of parent and branch
//
// A file is complete before it has its name, and its name is durable before a
// writer goes on.

// CreateDir makes a folder with a new, empty key store and opens it. It returns
// [fs.ErrExist] if the folder exists, and [kmsencrypted.ErrConfig] for negative limits.
func CreateDir(path string, limits Limits) (Store, error) {
	limits, err := limits.checked()
	if err != nil {
		return nil, err
	}
	var id ID
	rand.Read(id[:])
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, err
	}
	d := &dirStore{path: path}
	if err := os.Mkdir(d.file("branches"), 0o700); err != nil {
		return nil, err
	}
	err = d.write(d.file("store.json"), dirState{Store: id.String(), MaxAge: limits.MaxAge.Milliseconds(), StaleFor: limits.StaleFor.Milliseconds()})
	if err != nil {
		return nil, err
	}
	return OpenDir(path)
}

// OpenDir opens the key store in a folder that [CreateDir] made. Only its owner should have access to the folder. Several
// processes of one machine may use it at once; a folder that machines share needs a file system
// with locks.
func OpenDir(path string) (Store, error) {
	d := &dirStore{path: path}
	if _, err := d.state(); err != nil {
		return nil, err
	}
	return d, nil
}

type dirStore struct{ path string }

// dirState is the content of store.json.
type dirState struct {
	Store    string `json:"store"`
	MaxAge   int64  `json:"max_age_ms"`
	StaleFor int64  `json:"stale_for_ms"`
	Epoch    uint64 `json:"epoch,omitzero"`
}

// dirRow is the content of the file of a row.
type dirRow struct {
	Parent     string    `json:"parent,omitempty"`
	Branch     string    `json:"branch"`
	Version    uint32    `json:"version"`
	WrappedKey string    `json:"encrypted_kms_key,omitempty"`
	Created    time.Time `json:"created"`
	Closing    time.Time `json:"closing,omitzero"`
	Erased     time.Time `json:"erased,omitzero"`
}

func (d *dirStore) file(parts ...string) string {
	return filepath.Join(append([]string{d.path}, parts...)...)
}

// folder is that of a branch. A hash suits every file system, whatever the name is.
func (d *dirStore) folder(n Name) string {
	return d.file("branches", fmt.Sprintf("%x", sha256.Sum256(canon.Strings(n.Parent, n.Branch))))
}

func (d *dirStore) row(n Name, version uint32) string {
	return filepath.Join(d.folder(n), decimal(version)+".json")
}

func (d *dirStore) state() (State, error) {
	var content dirState
	if err := readJSON(d.file("store.json"), &content); err != nil {
		return State{}, fmt.Errorf("branch: %w: key store: %w", kmsencrypted.ErrConfig, err)
	}
	state, err := stateRow{id: content.Store, maxAge: content.MaxAge, staleFor: content.StaleFor}.state()
	if err != nil {
		return State{}, fmt.Errorf("branch: %w: %w", kmsencrypted.ErrConfig, err)
	}
	state.Epoch = content.Epoch
	return state, nil
}

func (d *dirStore) Read(ctx context.Context, name Name) (State, []Row, error) {
	if err := ctx.Err(); err != nil {
		return State{}, nil, err
	}
	state, err := d.state()
	if err != nil {
		return state, nil, err
	}
	rows, err := d.rows(d.folder(name))
	for _, row := range rows {
		if err == nil && row.Name != name {
			err = fmt.Errorf("branch: %w: a row of %s is in the folder of %s", kmsencrypted.ErrMalformed, row.Name, name)
		}
	}
	if err != nil {
		return state, nil, err
	}
	return state, rows, nil
}

// rows reads the rows in a folder, the lowest version first.
func (d *dirStore) rows(folder string) ([]Row, error) {
	files, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, away(err)
	}
	var rows []Row
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue // a temporary file
		}
		var r dirRow
		if err := readJSON(filepath.Join(folder, f.Name()), &r); err != nil {
			return nil, away(err)
		}
		if r.Version == 0 || f.Name() != decimal(r.Version)+".json" {
			return nil, fmt.Errorf("branch: %w: version %d in the file %s", kmsencrypted.ErrMalformed, r.Version, f.Name())
		}
		rows = append(rows, Row{Name{r.Parent, r.Branch}, r.Version, r.WrappedKey, r.Created, r.Closing, r.Erased})
	}
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.Version, b.Version) })
	return rows, nil
}

func (d *dirStore) Insert(ctx context.Context, row Row) (added bool, err error) {
	err = d.locked(ctx, func() error {
		path := d.row(row.Name, row.Version)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return err // nil if there is one
		}
		if err := os.MkdirAll(d.folder(row.Name), 0o700); err != nil {
			return err
		}
		if err := durable.SyncFolder(d.file("branches")); err != nil {
			return err
		}
		added = true
		return d.writeRow(row)
	})
	return added && err == nil, err
}

func (d *dirStore) Replace(ctx context.Context, row Row, wrappedKey string) (replaced bool, err error) {
	err = d.locked(ctx, func() error {
		rows, err := d.rows(d.folder(row.Name))
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Version == row.Version && r.WrappedKey == row.WrappedKey && r.Closing.IsZero() && r.Erased.IsZero() {
				r.WrappedKey, replaced = wrappedKey, true
				return d.writeRow(r)
			}
		}
		return nil
	})
	return replaced && err == nil, err
}

func (d *dirStore) Close(ctx context.Context, name Name, at time.Time) error {
	return d.mark(ctx, name, func(r *Row) bool {
		if !r.Closing.IsZero() || !r.Erased.IsZero() {
			return false
		}
		r.Closing = at
		return true
	})
}

func (d *dirStore) Erase(ctx context.Context, name Name, at time.Time) error {
	erase := func(r *Row) bool {
		if !r.Erased.IsZero() && r.WrappedKey == "" {
			return false
		}
		r.WrappedKey = ""
		if r.Closing.IsZero() {
			r.Closing = at
		}
		if r.Erased.IsZero() {
			r.Erased = at
		}
		return true
	}
	for {
		if err := d.mark(ctx, name, erase); err != nil {
			return err
		}
		rows, err := d.rows(d.folder(name))
		if err != nil || len(rows) > 0 && !slices.ContainsFunc(rows, func(r Row) bool { return erase(&r) }) {
			return err
		}
		if len(rows) > 0 { // one more was made meanwhile
			continue
		}
		if _, err := d.Insert(ctx, Row{Name: name, Version: 1, Created: at, Closing: at, Erased: at}); err != nil {
			return err
		}
	}
}

// mark changes the rows of a branch for which change returns true.
func (d *dirStore) mark(ctx context.Context, name Name, change func(*Row) bool) error {
	return d.locked(ctx, func() error {
		rows, err := d.rows(d.folder(name))
		for _, r := range rows {
			if err == nil && change(&r) {
				err = d.writeRow(r)
			}
		}
		return err
	})
}

func (d *dirStore) Raise(ctx context.Context, old, epoch uint64) (raised bool, err error) {
	err = d.locked(ctx, func() error {
		var content dirState
		err := readJSON(d.file("store.json"), &content)
		if err != nil || content.Epoch != old {
			return err
		}
		content.Epoch, raised = epoch, true
		return d.write(d.file("store.json"), content)
	})
	return raised && err == nil, err
}

func (d *dirStore) All(ctx context.Context, parent string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		folders, err := os.ReadDir(d.file("branches"))
		var all []Row
		for _, f := range folders {
			var rows []Row
			if err == nil {
				err = ctx.Err()
			}
			if err == nil {
				rows, err = d.rows(d.file("branches", f.Name()))
			}
			for _, row := range rows {
				if row.Parent == parent {
					all = append(all, row)
				}
			}
		}
		slices.SortFunc(all, func(a, b Row) int { return cmp.Or(cmp.Compare(a.Branch, b.Branch), cmp.Compare(a.Version, b.Version)) })
		for _, row := range all {
			if !yield(row, nil) {
				return
			}
		}
		if err != nil {
			yield(Row{}, away(err))
		}
	}
}

// locked makes a change that no other process makes at the same time.
func (d *dirStore) locked(ctx context.Context, f func() error) error {
	unlock, err := filelock.Lock(ctx, d.file("lock"))
	if err != nil {
		return away(err)
	}
	defer unlock()
	if err := f(); err != nil {
		return away(err)
	}
	return nil
}

func (d *dirStore) writeRow(r Row) error {
	return d.write(d.row(r.Name, r.Version), dirRow{r.Parent, r.Branch, r.Version, r.WrappedKey, r.Created, r.Closing, r.Erased})
}

// write replaces a file in one step.
func (d *dirStore) write(path string, content any) error {
	text, err := json.MarshalIndent(content, "", "\t")
	if err != nil {
		return err
	}
	return durable.Replace(path, append(text, '\n'))
}

func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%w: %s: %w", kmsencrypted.ErrMalformed, filepath.Base(path), err)
	}
	return nil
}

// away returns the kind of an error of the file system.
func away(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kmsencrypted.ErrMalformed):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("branch: %w: key store: %w", kmsencrypted.ErrConfig, err)
	}
	return fmt.Errorf("branch: %w: key store: %w", kmsencrypted.ErrUnavailable, err)
}
