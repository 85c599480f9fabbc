package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Create creates a key file with one new random key, readable only by its owner,
// and opens it. It returns [fs.ErrExist] if the file exists; it never overwrites
// one.
func Create(path string) (*Provider, error) {
	err := write(filepath.Dir(path), newLine(time.Now()), func(temporary *os.File) error {
		// Unlike a rename, a link fails if the file exists.
		err := os.Link(temporary.Name(), path)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
		// Some file systems have no links.
		return createExclusively(path, temporary.Name())
	})
	if err != nil {
		return nil, err
	}
	return Open(path)
}

// OpenOrCreate opens the key file at path. If there is none, it asks inUse
// whether data exists that was sealed under the keys of the file, and creates
// the file only if not. It is for programs that start on an empty database.
//
// A key file can be missing for other reasons: a volume is not mounted, the
// working directory is another one, a container was replaced. A new key in its
// place would open nothing of the old data, and the new data would be lost when
// the new file goes. So inUse must look at the data itself, such as
//
//	SELECT EXISTS (SELECT 1 FROM customers)
//
// If inUse returns true, the error is [fs.ErrNotExist]. An error of inUse is
// returned, and no file is created. A nil inUse is [kmsencrypted.ErrConfig].
// Several processes on one machine may call OpenOrCreate at once and get the
// same key. Machines that share a database but not the file must get a copy of
// it before they start.
func OpenOrCreate(path string, inUse func() (bool, error)) (*Provider, error) {
	if inUse == nil {
		return nil, fmt.Errorf("local:%s: %w: OpenOrCreate needs a function that reports whether the keys are in use", path, kmsencrypted.ErrConfig)
	}
	provider, err := Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return provider, err
	}
	used, err := inUse()
	if err != nil {
		return nil, fmt.Errorf("local:%s: the file does not exist, and whether its keys are in use is not known: %w", path, err)
	}
	if !used {
		provider, err = Create(path)
		if !errors.Is(err, fs.ErrExist) {
			return provider, err
		}
		return Open(path) // another process was quicker
	}
	// Another process may have created and used it meanwhile.
	if provider, err = Open(path); errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("local:%s: the key file is missing, but data exists that needs its keys: restore the file: %w", path, err)
	}
	return provider, err
}

// createExclusively copies temporary to path, which must not exist.
func createExclusively(path, temporary string) error {
	text, err := os.ReadFile(temporary)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return writeAndClose(file, string(text))
}
