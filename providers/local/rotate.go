package local

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Rotate adds a new random key before those in the file and opens the file.
// Everything wrapped before still opens. The file is replaced in one step and
// keeps its owner. If path is a symbolic link, the file that it points to is
// replaced and the link stays.
//
// Processes that rotate one file at the same time wait for each other, and the
// file keeps the keys of all of them. A process that opened the file before uses
// its old keys until it opens the file again. So give the new file to every
// machine before any of them wraps under the new key.
func Rotate(path string) (*Provider, error) {
	if err := rotate(path); err != nil {
		return nil, err
	}
	return Open(path)
}

func rotate(path string) error {
	// Renaming onto a link would replace the link.
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	unlock, err := lock(file)
	if err != nil {
		return fmt.Errorf("local:%s: %w", path, err)
	}
	defer unlock()

	text, err := readPrivate(file)
	if err != nil {
		return err
	}
	if _, err := parse("local:"+path, text); err != nil {
		return err
	}
	return write(filepath.Dir(file), newLine(time.Now())+text, func(temporary *os.File) error {
		if err := keepOwner(temporary.Name(), file); err != nil {
			return fmt.Errorf("local:%s: the new file cannot get the owner of the old one: %w", path, err)
		}
		return os.Rename(temporary.Name(), file)
	})
}
