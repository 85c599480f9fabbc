// Package durable writes files that are complete before they have their name, and on
// disk before the caller goes on.
package durable

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// Replace writes text to the file at path, readable by its owner only, in one step: no
// process sees half of it.
func Replace(path string, text []byte) error {
	folder := filepath.Dir(path)
	temporary, err := os.CreateTemp(folder, ".kmsencrypted-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(text)
	if err == nil {
		err = temporary.Sync()
	}
	if cerr := temporary.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return err
	}
	return SyncFolder(folder)
}

// SyncFolder makes the entries of a folder durable. Windows has no such call.
func SyncFolder(folder string) error {
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
