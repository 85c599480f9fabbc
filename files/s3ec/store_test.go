package s3ec

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"sync"
)

// memory is a bucket in memory that counts what is asked of it.
type memory struct {
	mu       sync.Mutex
	objects  map[string]stored
	versions int
	gets     []Range
	onGet    func(key string, r Range) error // before a request is answered
	body     func(key string, body io.Reader) io.Reader
}

type stored struct {
	data    []byte
	upload  Upload
	version Version
}

func newMemory() *memory { return &memory{objects: make(map[string]stored)} }

func (m *memory) Put(_ context.Context, key string, u Upload) (Version, error) {
	data, err := io.ReadAll(u.Body)
	if err != nil {
		return Version{}, err
	}
	if u.Size >= 0 && u.Size != int64(len(data)) {
		return Version{}, fmt.Errorf("announced %d bytes, sent %d", u.Size, len(data))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.objects[key]; taken && u.IfNotExist {
		return Version{}, fs.ErrExist
	}
	u.Metadata = maps.Clone(u.Metadata)
	m.versions++
	version := Version{ETag: fmt.Sprintf(`"%d"`, m.versions)}
	m.objects[key] = stored{data, u, version}
	return version, nil
}

func (m *memory) Get(_ context.Context, key string, r Range) (*Object, error) {
	if m.onGet != nil {
		if err := m.onGet(key, r); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets = append(m.gets, r)
	object, ok := m.objects[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if r.Version != (Version{}) && r.Version != object.version {
		return nil, ErrReplaced
	}
	part := object.data[r.Offset:]
	if r.Length > 0 {
		part = part[:r.Length]
	}
	var body io.Reader = bytes.NewReader(part)
	if m.body != nil {
		body = m.body(key, body)
	}
	return &Object{io.NopCloser(body), int64(len(part)), object.upload.Metadata, object.upload.Headers, object.version}, nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}
