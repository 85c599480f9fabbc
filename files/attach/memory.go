package attach

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"
)

// Memory is a [Bucket] in memory, for tests. The zero value is empty and ready.
type Memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	parts   map[string]map[int][]byte // of objects that are uploaded in parts
}

// Put implements [Bucket].
func (m *Memory) Put(ctx context.Context, name string, write func(io.Writer) error) error {
	if err := allGiven([]any{write}); err != nil {
		return err
	}
	var object bytes.Buffer
	if err := write(&object); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.objects[name]; taken {
		return fmt.Errorf("attach: object %s: %w", name, fs.ErrExist)
	}
	if m.objects == nil {
		m.objects = make(map[string][]byte)
	}
	m.objects[name] = object.Bytes()
	return nil
}

// Open implements [Bucket].
func (m *Memory) Open(ctx context.Context, name string) (Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	object, ok := m.objects[name]
	if !ok {
		return nil, fmt.Errorf("attach: object %s: %w", name, fs.ErrNotExist)
	}
	return memoryObject{bytes.NewReader(object)}, ctx.Err()
}

// Delete implements [Bucket].
func (m *Memory) Delete(ctx context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, name)
	return ctx.Err()
}

// Names lists all objects, sorted.
func (m *Memory) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.objects))
	for name := range m.objects {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// List implements [Lister].
func (m *Memory) List(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, name := range m.Names() {
			if !yield(name, ctx.Err()) {
				return
			}
		}
	}
}

// Change replaces the bytes of an object by what f returns for a copy of them, as
// an attacker with write access to the store could.
func (m *Memory) Change(name string, f func(object []byte) []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[name] = f(bytes.Clone(m.objects[name]))
}

type memoryObject struct{ *bytes.Reader }

func (memoryObject) Close() error { return nil }
