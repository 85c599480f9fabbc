package attach_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// Whatever is done to an object or to a row, the file reads as it was or with a
// typed error, and never with other bytes.
func TestTampering(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	c, other := w.insert(t, 1), w.insert(t, 2)
	const chunk, body = files.ChunkSize + 16, 88
	content := random(1, 5*files.ChunkSize+100)
	a, b := w.attach(t, c, "scans", content), w.attach(t, other, "scans", random(2, 5*files.ChunkSize+100))
	small := w.attach(t, c, "scans", []byte("small"))
	whole := func(object string) (whole []byte) {
		w.memory.Change(object, func(o []byte) []byte { whole = bytes.Clone(o); return o })
		return whole
	}
	original, theirs := whole(a.Object), whole(b.Object)

	check := func(what string, changed []byte, sized bool) {
		t.Helper()
		w.memory.Change(a.Object, func([]byte) []byte { return changed })
		if sized { // whoever changes objects may change rows too
			w.exec(t, "UPDATE kms_attachments SET object_size = ? WHERE id = ?", len(changed), a.ID)
		}
		got, err := w.content(t, a)
		typed := errors.Is(err, kmsencrypted.ErrDecrypt) || errors.Is(err, kmsencrypted.ErrMalformed) || errors.Is(err, kmsencrypted.ErrNotCiphertext)
		if !typed || !bytes.HasPrefix(content, got) {
			t.Errorf("%s: %d bytes, %v, want a typed error and nothing but a beginning of the file", what, len(got), err)
		}
		w.memory.Change(a.Object, func([]byte) []byte { return original })
		w.exec(t, "UPDATE kms_attachments SET object_size = ? WHERE id = ?", a.ObjectSize, a.ID)
	}
	for _, sized := range []bool{false, true} {
		for at := range body + 16 {
			check("header flipped", flipped(original, at), sized)
		}
		for k := range 6 {
			for _, d := range []int{0, 1, chunk / 2, chunk - 1} {
				if cut := body + k*chunk + d; cut < len(original) {
					check("cut", original[:cut], sized)
					check("flipped", flipped(original, cut), sized)
				}
			}
		}
		check("empty", nil, sized)
		check("longer by a byte", append(bytes.Clone(original), 0), sized)
		check("longer by a chunk", append(bytes.Clone(original), original[body:body+chunk]...), sized)
		check("chunk dropped", append(bytes.Clone(original[:body+chunk]), original[body+2*chunk:]...), sized)
		check("chunk repeated", append(bytes.Clone(original[:body+2*chunk]), original[body+chunk:]...), sized)
		exchanged := bytes.Clone(original)
		copy(exchanged[body:], original[body+chunk:body+2*chunk])
		copy(exchanged[body+chunk:], original[body:body+chunk])
		check("chunks exchanged", exchanged, sized)
		mixed := bytes.Clone(original)
		copy(mixed[body+chunk:], theirs[body+chunk:body+2*chunk])
		check("a chunk of another object", mixed, sized)
		check("another record's object", theirs, sized)
		check("this record's other object", whole(small.Object), sized)
	}
	w.holds(t, a, content)

	row := func(what, set string, args ...any) {
		t.Helper()
		w.exec(t, "UPDATE kms_attachments SET "+set+" WHERE id = ?", append(args, a.ID)...)
		var got []byte
		now, err := w.manager.Find(t.Context(), a.ID)
		if err == nil {
			got, err = w.content(t, now)
		}
		if err == nil || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v, want an error", what, len(got), err)
		}
		w.exec(t, "DELETE FROM kms_attachments WHERE id = ?", a.ID)
		w.exec(t, `INSERT INTO kms_attachments (id, record_table, record_id, name, variant, parent_id, bucket, object, format, file_id, wrapped_key, size, object_size, file_name, content_type, created)
			VALUES (?, ?, '1', ?, '', '', ?, ?, 'native', ?, ?, ?, ?, 'scans.bin', '', 0)`, a.ID, a.Table, a.Name, a.Bucket, a.Object, a.File.String(), a.WrappedKey, a.Size, a.ObjectSize)
		w.holds(t, a, content)
	}
	row("row moved to another record", "record_id = '2'")
	row("row moved to a record that is not there", "record_id = '99'")
	row("row renamed", "name = 'license'")
	row("row made a derived file", "variant = 'x'")
	row("another format", "format = 'lockbox'")
	row("another object's name", "object = ?", strings.Repeat("x", 28))
	row("another record's file key", "wrapped_key = ?", b.WrappedKey)
	row("another file's key", "wrapped_key = ?", small.WrappedKey)
	row("no file key", "wrapped_key = ''")
	row("plain text as the file key", "wrapped_key = 'secret'")
	row("file key of an unknown version", "wrapped_key = 'v9:AAAA'")
	row("another file id", "file_id = ?", small.File.String())
	row("no file id", "file_id = 'x'")
	row("another size", "size = 5")
	row("an unknown bucket", "bucket = 'other'")
}

func flipped(object []byte, at int) []byte {
	changed := bytes.Clone(object)
	if at < len(changed) {
		changed[at] ^= 0x20
	}
	return changed
}

func TestMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	c := w.insert(t, 1)
	a := w.attach(t, c, "license", []byte("content"))
	must(t, w.memory.Delete(t.Context(), a.Object))
	if _, err := w.content(t, a); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open without the object = %v, want fs.ErrNotExist", err)
	}
	w.exec(t, "DELETE FROM kms_attachments")
	for what, err := range map[string]error{
		"Open":    second(w.content(t, a)),
		"Get":     second(w.manager.Get(t.Context(), c, "license")),
		"Find":    second(w.manager.Find(t.Context(), a.ID)),
		"Derived": second(w.manager.Derived(t.Context(), a, "thumb")),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s without the row = %v, want fs.ErrNotExist", what, err)
		}
	}
	if _, err := w.manager.Upload(t.Context(), c, "passport", strings.NewReader(""), attach.Options{}); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Upload under an unknown name = %v, want ErrConfig", err)
	}
}

func second[T any](_ T, err error) error { return err }

// A source that breaks or has another size than was said leaves nothing.
func TestBadSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, func(c *attach.Config) { c.MaxSize = 1 << 20 })
	c := w.insert(t, 1)
	broken := errors.New("connection reset")
	for _, s := range []struct {
		what string
		src  io.Reader
		o    attach.Options
		want error
	}{
		{"breaks at once", iotest.ErrReader(broken), attach.Options{}, broken},
		{"breaks later", io.MultiReader(strings.NewReader(strings.Repeat("x", 700_000)), iotest.ErrReader(broken)), attach.Options{}, broken},
		{"ends unexpectedly", io.MultiReader(strings.NewReader("x"), iotest.ErrReader(io.ErrUnexpectedEOF)), attach.Options{}, io.ErrUnexpectedEOF},
		{"shorter", strings.NewReader("12345"), attach.Options{Size: 6}, attach.ErrSize},
		{"longer", strings.NewReader("1234567"), attach.Options{Size: 6}, attach.ErrSize},
		{"much longer", strings.NewReader(strings.Repeat("x", 100_000)), attach.Options{Size: 6}, attach.ErrSize},
		{"over the limit", strings.NewReader(strings.Repeat("x", 1<<20+1)), attach.Options{}, attach.ErrSize},
		{"declared over the limit", strings.NewReader(""), attach.Options{Size: 1<<20 + 1}, attach.ErrSize},
	} {
		if _, err := w.manager.Upload(t.Context(), c, "scans", s.src, s.o); !errors.Is(err, s.want) {
			t.Errorf("%s: Upload = %v, want %v", s.what, err, s.want)
		}
		w.clean(t, 0)
	}
	full := strings.Repeat("x", 1<<20)
	var done, total int64
	p, err := w.manager.Upload(t.Context(), c, "scans", strings.NewReader(full), attach.Options{Size: 1 << 20, Progress: func(d, t int64) { done, total = d, t }})
	if err != nil || done != 1<<20 || total != 1<<20 || p.Size() != 1<<20 {
		t.Errorf("Upload up to the limit = %v, progress %d of %d", err, done, total)
	}
}

// failing is a bucket that fails some of its calls.
type failing struct {
	attach.Bucket
	mu    sync.Mutex
	put   int // so many Puts fail half-way
	other int // so many Opens and Deletes fail
}

var errStore = errors.New("store is down")

func (f *failing) fails(n *int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	*n--
	return *n >= 0
}

func (f *failing) Put(ctx context.Context, name string, write func(io.Writer) error) error {
	if !f.fails(&f.put) {
		return f.Bucket.Put(ctx, name, write)
	}
	return f.Bucket.Put(ctx, name, func(w io.Writer) error { return write(&failingWriter{w, 100_000}) })
}

type failingWriter struct {
	io.Writer
	left int
}

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errStore
	}
	return w.Writer.Write(p)
}

func (f *failing) Open(ctx context.Context, name string) (attach.Object, error) {
	if f.fails(&f.other) {
		return nil, errStore
	}
	return f.Bucket.Open(ctx, name)
}

func (f *failing) Delete(ctx context.Context, name string) error {
	if f.fails(&f.other) {
		return errStore
	}
	return f.Bucket.Delete(ctx, name)
}

// What is safe to repeat is repeated, and nothing is left half done.
func TestStoreErrors(t *testing.T) {
	t.Parallel()
	bucket := &failing{Bucket: new(attach.Memory)}
	w := newWorld(t, sqlite, func(c *attach.Config) {
		c.Buckets["main"] = bucket
		c.Grace = time.Millisecond
	})
	w.memory = bucket.Bucket.(*attach.Memory)
	c := w.insert(t, 1)
	content := random(1, 300_000)
	bucket.put = 2
	a := w.attach(t, c, "license", content)
	w.holds(t, a, content)
	w.clean(t, 1)

	bucket.put = 1 // a stream cannot be read again
	if _, err := w.manager.Upload(t.Context(), c, "scans", iotest.OneByteReader(bytes.NewReader(content)), attach.Options{}); !errors.Is(err, errStore) {
		t.Errorf("Upload of a stream while the store fails = %v", err)
	}
	bucket.put = 100
	if _, err := w.manager.Upload(t.Context(), c, "scans", bytes.NewReader(content), attach.Options{}); !errors.Is(err, errStore) {
		t.Errorf("Upload while the store fails = %v", err)
	}
	bucket.put = 0
	w.clean(t, 1)

	bucket.other = 2
	w.holds(t, a, content)
	bucket.other = 2
	must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, a) }))
	w.sweep(t)
	w.clean(t, 0)

	a = w.attach(t, c, "license", content)
	must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, a) }))
	time.Sleep(5 * time.Millisecond)
	bucket.other = 3
	if swept, err := w.manager.Sweep(t.Context()); !errors.Is(err, errStore) || swept.Deleted != 0 {
		t.Errorf("Sweep while the store fails = %+v, %v", swept, err)
	}
	bucket.other = 0
	w.sweep(t)
	w.clean(t, 0)
}

// stalled gives a beginning and then nothing until it is released.
type stalled struct {
	once    sync.Once
	release chan struct{}
}

func (s *stalled) Read(p []byte) (n int, err error) {
	s.once.Do(func() { n = copy(p, "beginning") })
	if n > 0 {
		return n, nil
	}
	<-s.release
	return 0, io.EOF
}

// A stalled client loses its lease; data that it sends later is ignored.
func TestStalledClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, func(c *attach.Config) { c.Lease, c.Grace = 20*time.Millisecond, time.Millisecond })
	c := w.insert(t, 1)
	src := &stalled{release: make(chan struct{})}
	result := make(chan error)
	go func() {
		_, err := w.manager.Upload(t.Context(), c, "license", src, attach.Options{})
		result <- err
	}()
	time.Sleep(60 * time.Millisecond)
	w.sweep(t)
	close(src.release)
	if err := <-result; !errors.Is(err, attach.ErrAbandoned) {
		t.Errorf("Upload of a client that stalled = %v, want ErrAbandoned", err)
	}
	w.sweep(t)
	w.clean(t, 0)

	// A client that is gone ends the request's context.
	ctx, cancel := context.WithCancel(t.Context())
	go func() { time.Sleep(20 * time.Millisecond); cancel() }()
	endless := iotest.DataErrReader(io.LimitReader(zeros{}, 1<<40))
	if _, err := w.manager.Upload(ctx, c, "license", endless, attach.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Upload of a client that went away = %v, want context.Canceled", err)
	}
	w.clean(t, 0)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// An upload that nobody commits in time is given up, and its Commit says so.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		w := newWorld(t, d, func(c *attach.Config) { c.Lease, c.Grace = time.Millisecond, time.Millisecond })
		c := w.insert(t, 1)
		p, err := w.manager.Upload(t.Context(), c, "license", strings.NewReader("content"), attach.Options{})
		must(t, err)
		w.sweep(t)
		if _, err := w.commit(t, p); !errors.Is(err, attach.ErrAbandoned) {
			t.Errorf("Commit of what was given up = %v, want ErrAbandoned", err)
		}
		w.clean(t, 0)
	})
}

// A transaction that is rolled back leaves the file pending, and Commit may come again.
func TestRolledBack(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		w := newWorld(t, d, nil)
		c := w.insert(t, 1)
		p, err := w.manager.Upload(t.Context(), c, "license", strings.NewReader("content"), attach.Options{})
		must(t, err)
		tx, err := w.db.Begin()
		must(t, err)
		_, err = p.Commit(t.Context(), tx)
		must(t, err)
		must(t, tx.Rollback())
		if _, err := w.manager.Get(t.Context(), c, "license"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after a rollback, Get = %v, want fs.ErrNotExist", err)
		}
		a, err := w.commit(t, p)
		must(t, err)
		w.holds(t, a, []byte("content"))
		must(t, p.Discard(t.Context())) // too late: it does nothing
		w.holds(t, a, []byte("content"))
	})
}
