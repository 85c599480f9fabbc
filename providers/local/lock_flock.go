//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package local

import (
	"errors"
	"os"
	"syscall"
)

// lock waits until no other process or goroutine rotates the key file at path.
// The lock ends with unlock, or with the process.
func lock(path string) (unlock func(), err error) {
	for {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		if err := flock(file); err != nil {
			file.Close()
			return nil, err
		}
		// The lock belongs to the file, not to its name: whoever held it before may
		// have put another file in its place.
		locked, err1 := file.Stat()
		current, err2 := os.Stat(path)
		if err := errors.Join(err1, err2); err != nil {
			file.Close()
			return nil, err
		}
		if os.SameFile(locked, current) {
			return func() { file.Close() }, nil
		}
		file.Close()
	}
}

func flock(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if err == syscall.EINTR {
			continue
		}
		return os.NewSyscallError("flock", err)
	}
}

// keepOwner gives the file at path the owner and group of the file at old: an
// administrator may rotate the key file of an application.
func keepOwner(path, old string) error {
	from, err := os.Stat(old)
	if err != nil {
		return err
	}
	to, err := os.Stat(path)
	if err != nil {
		return err
	}
	a, b := from.Sys().(*syscall.Stat_t), to.Sys().(*syscall.Stat_t)
	if a.Uid == b.Uid && a.Gid == b.Gid {
		return nil
	}
	return os.Chown(path, int(a.Uid), int(a.Gid))
}
