package local

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Create creates a key file with one new random key, readable only by its owner,
// and opens it. It returns [fs.ErrExist] if the file exists; it never overwrites
// one.
func Create(path string) (*Provider, error) {
	err := write(path, newLine(time.Now(), nil), func(temporary string) error {
		// Unlike a rename, a link fails if the file exists.
		err := os.Link(temporary, path)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
		// Some file systems have no links.
		return createExclusively(path, temporary)
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

// Rotate adds a new random key before those in the file and opens the file.
// Everything wrapped before still opens. The file is replaced in one step.
func Rotate(path string) (*Provider, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys("local:"+path, text)
	if err != nil {
		return nil, err
	}
	err = write(path, newLine(time.Now(), keys)+text, func(temporary string) error {
		return os.Rename(temporary, path)
	})
	if err != nil {
		return nil, err
	}
	return Open(path)
}

// write writes text to a temporary file next to path. publish moves it to path,
// so that no process sees half a key file. The file and its name are on disk
// before anything is wrapped under the key.
func write(path, text string, publish func(temporary string) error) error {
	folder := filepath.Dir(path)
	temporary, err := os.CreateTemp(folder, ".kmsencrypted-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	if err := writeAndClose(temporary, text); err != nil {
		return err
	}
	if err := publish(temporary.Name()); err != nil {
		return err
	}
	return syncFolder(folder)
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

// syncFolder makes the entries of a folder durable. Windows has no such call.
func syncFolder(folder string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		err = nil // not supported by the file system
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func writeAndClose(file *os.File, text string) error {
	_, err := file.WriteString(text)
	if err == nil {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	return err
}

// newLine returns the line of a key file with a new random key. The id is the
// day, with a number if that id is taken.
func newLine(now time.Time, taken []key) string {
	day := now.UTC().Format("2006-01-02")
	id := day
	for n := 2; contains(taken, id); n++ {
		id = fmt.Sprintf("%s.%d", day, n)
	}
	var b [KeySize]byte
	rand.Read(b[:])
	return fmt.Sprintf("%s %x\n", id, b)
}

func contains(keys []key, id string) bool {
	for _, k := range keys {
		if k.id == id {
			return true
		}
	}
	return false
}
