package attach_test

import (
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// refuseLinks makes the kernel refuse hard links to this goroutine, as a file system
// without them does. The thread ends with the goroutine.
func refuseLinks(t *testing.T) {
	t.Helper()
	const (
		noNewPrivileges, setSeccomp, filterMode = 38, 22, 2 // prctl
		allow, refuse                           = 0x7fff0000, 0x00050000 | uint32(syscall.EPERM)
	)
	program := []syscall.SockFilter{
		{Code: syscall.BPF_LD | syscall.BPF_W | syscall.BPF_ABS}, // the number of the system call
		{Code: syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K, K: syscall.SYS_LINKAT, Jf: 1},
		{Code: syscall.BPF_RET | syscall.BPF_K, K: refuse},
		{Code: syscall.BPF_RET | syscall.BPF_K, K: allow},
	}
	filter := syscall.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	runtime.LockOSThread()
	_, _, first := syscall.RawSyscall6(syscall.SYS_PRCTL, noNewPrivileges, 1, 0, 0, 0, 0)
	_, _, second := syscall.RawSyscall(syscall.SYS_PRCTL, setSeccomp, filterMode, uintptr(unsafe.Pointer(&filter)))
	if first != 0 || second != 0 {
		t.Skip("no system calls can be refused here: ", first, second)
	}
}

// A folder on a file system without hard links (FAT, some network file systems) has an
// identity, the same for all who open it at once, and takes files.
func TestFolderWithoutHardLinks(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	var mu sync.Mutex
	seen := make(map[string]int)
	t.Run("Identity", func(t *testing.T) {
		for range 20 {
			d := openDir(t, path)
			t.Run("", func(t *testing.T) {
				t.Parallel()
				refuseLinks(t)
				is, err := d.Identity(t.Context())
				must(t, err)
				mu.Lock()
				defer mu.Unlock()
				seen[is]++
			})
		}
	})
	if len(seen) > 1 || seen[""] > 0 {
		t.Errorf("identities %v, want one", seen)
	}
	t.Run("Put", func(t *testing.T) {
		refuseLinks(t)
		w := newWorld(t, sqlite, func(c *attach.Config) { c.Buckets = map[string]attach.Bucket{"disk": openDir(t, path)} })
		content := []byte(strings.Repeat("content", 1000))
		w.holds(t, w.attach(t, w.insert(t, 1), "license", content), content)
		if is, err := openDir(t, path).Identity(t.Context()); err != nil || seen[is] == 0 {
			t.Errorf("opened again, the identity is %q, %v, want %v", is, err, seen)
		}
	})
}
