//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// lockWait is how long a rotation waits for another one, which takes milliseconds.
const lockWait = 10 * time.Second

// lock waits until no other process or goroutine rotates the key file at path. It
// creates a file next to it and removes it at the end. A process that dies in
// between leaves it, and an administrator must remove it.
func lock(path string) (unlock func(), err error) {
	name := path + ".rotating"
	for end := time.Now().Add(lockWait); ; time.Sleep(10 * time.Millisecond) {
		file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err == nil {
			file.Close()
			return func() { os.Remove(name) }, nil
		}
		// On Windows a file that is being removed is refused with ErrPermission.
		taken := errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrPermission)
		if !taken || time.Now().After(end) {
			return nil, fmt.Errorf("another process rotates the file, or died while it did; if none does, remove %s: %w", name, err)
		}
	}
}

// keepOwner does nothing: these systems have no owner that a rename would change,
// or no portable way to set it.
func keepOwner(path, old string) error { return nil }
