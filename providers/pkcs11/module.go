//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/kmsencrypted/kmsencrypted"
)

// A process may initialise a module once, and its state is shared by all that use it.
// So providers of one module share it, and the last one that closes finalises it.
var modules = struct {
	sync.Mutex
	loaded map[string]*module
}{loaded: make(map[string]*module)}

type module struct {
	path    string
	library *pkcs11.Ctx
	users   int
	ours    bool // initialised here, and not by other code of the process
}

func load(path string) (*module, error) {
	modules.Lock()
	defer modules.Unlock()
	if m := modules.loaded[path]; m != nil {
		m.users++
		return m, nil
	}
	m := &module{path: path, library: pkcs11.New(path), users: 1}
	if m.library == nil {
		return nil, fmt.Errorf("pkcs11: %w: %s is no PKCS #11 module that loads", kmsencrypted.ErrConfig, path)
	}
	err := m.library.Initialize()
	if m.ours = err == nil; err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		m.library.Destroy()
		return nil, fmt.Errorf("pkcs11: %w: %s does not start: %w", kmsencrypted.ErrConfig, path, err)
	}
	modules.loaded[path] = m
	return m, nil
}

func (m *module) release() error {
	modules.Lock()
	defer modules.Unlock()
	if m.users--; m.users > 0 {
		return nil
	}
	delete(modules.loaded, m.path)
	var err error
	if m.ours {
		err = m.library.Finalize()
	}
	m.library.Destroy()
	return err
}
