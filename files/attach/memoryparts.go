package attach

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
)

// BeginParts implements [PartBucket].
func (m *Memory) BeginParts(ctx context.Context, name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.parts == nil {
		m.parts = make(map[string]map[int][]byte)
	}
	m.parts[name] = make(map[int][]byte)
	return "", ctx.Err()
}

// PutPart implements [PartBucket].
func (m *Memory) PutPart(ctx context.Context, name, _ string, p Part, content []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.parts[name] == nil {
		return fmt.Errorf("attach: parts of object %s: %w", name, fs.ErrNotExist)
	}
	m.parts[name][p.Number] = bytes.Clone(content)
	return ctx.Err()
}

// ListParts implements [PartBucket].
func (m *Memory) ListParts(ctx context.Context, name, _ string) (list []Part, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	parts, ok := m.parts[name]
	if !ok {
		return nil, fmt.Errorf("attach: parts of object %s: %w", name, fs.ErrNotExist)
	}
	for _, n := range slices.Sorted(maps.Keys(parts)) {
		list = append(list, Part{Number: n, Size: int64(len(parts[n])), SHA256: sha256.Sum256(parts[n])})
	}
	return list, ctx.Err()
}

// CompleteParts implements [PartBucket].
func (m *Memory) CompleteParts(ctx context.Context, name, _ string, parts []Part) error {
	m.mu.Lock()
	stored := m.parts[name]
	var object []byte
	for _, p := range parts {
		if sha256.Sum256(stored[p.Number]) != p.SHA256 {
			m.mu.Unlock()
			return fmt.Errorf("%w: part %d", ErrPartMissing, p.Number)
		}
		object = append(object, stored[p.Number]...)
	}
	m.mu.Unlock()
	err := m.Put(ctx, name, func(w io.Writer) error {
		_, err := w.Write(object)
		return err
	})
	if err != nil {
		return err
	}
	return m.AbortParts(ctx, name, "")
}

// AbortParts implements [PartBucket].
func (m *Memory) AbortParts(ctx context.Context, name, _ string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.parts, name)
	return ctx.Err()
}
