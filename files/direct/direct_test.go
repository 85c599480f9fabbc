package direct_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/direct"
	"github.com/kmsencrypted/kmsencrypted/files/serve"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type customer struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a program with customers whose files are in memory.
type world struct {
	db      *sql.DB
	memory  *attach.Memory
	manager *attach.Manager[customer]
	handler http.Handler
	log     bytes.Buffer
	failing int // how many commits fail
}

func newWorld(t testing.TB, change func(*attach.Config, *direct.Options)) *world {
	t.Helper()
	w := &world{memory: new(attach.Memory)}
	var err error
	w.db, err = sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "test.sqlite3")+"?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)&_txlock=immediate")
	must(t, err)
	t.Cleanup(func() { w.db.Close() })
	model, err := field.NewModel[customer](kmstest.Box(t), field.Config{Table: "customers", Files: true})
	must(t, err)
	_, err = w.db.Exec("CREATE TABLE customers (id integer PRIMARY KEY, encrypted_kms_key text); INSERT INTO customers (id) VALUES (7), (8)")
	must(t, err)
	config := attach.Config{One: []string{"license"}, Many: []string{"scans"}, Buckets: map[string]attach.Bucket{"main": w.memory}, PartSize: 2 * files.ChunkSize, MaxSize: 1 << 20, Grace: time.Millisecond}
	options := direct.Options{Secrets: [][]byte{bytes.Repeat([]byte("s"), 32)}, Logger: slog.New(slog.NewTextHandler(&w.log, nil))}
	if change != nil {
		change(&config, &options)
	}
	w.manager, err = attach.New(t.Context(), w.db, field.SQLite, model, config)
	must(t, err)
	must(t, w.manager.CreateTables(t.Context()))
	uploads, err := direct.New(w.manager, w.authorize, w.commit, options)
	must(t, err)
	mux := http.NewServeMux()
	mux.Handle("/customers/{id}/{name}", uploads)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(rw, r.WithContext(files.WithTenant(r.Context(), r.Header.Get("Tenant"))))
	})
	return w
}

// authorize trusts the headers of the test.
func (w *world) authorize(r *http.Request) (g direct.Grant[customer], err error) {
	user := r.Header.Get("User")
	switch user {
	case "":
		return g, serve.ErrUnauthorized
	case "eve":
		return g, serve.ErrForbidden
	}
	c := &customer{}
	err = w.db.QueryRowContext(r.Context(), "SELECT id, encrypted_kms_key FROM customers WHERE id = ?", r.PathValue("id")).Scan(&c.ID, &c.Key)
	if err != nil {
		return g, err
	}
	g = direct.Grant[customer]{User: user, Row: c, Name: r.PathValue("name")}
	if r.Header.Get("Replace") != "" {
		g.Replaces, err = w.manager.Get(r.Context(), c, g.Name)
	}
	return g, err
}

var errCommit = errors.New("the database went away")

func (w *world) commit(ctx context.Context, _ direct.Grant[customer], p *attach.Pending[customer]) (*attach.Attachment, error) {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	a, err := p.Commit(ctx, tx)
	if err == nil && w.failing > 0 {
		w.failing--
		err = errCommit
	}
	if err == nil {
		err = tx.Commit()
	}
	return a, err
}

// client is one that is logged in.
type client struct {
	w       *world
	path    string
	header  http.Header
	content []byte
	plan    struct {
		Token          string
		Size, PartSize int64
		Parts          int
		Key            []byte
	}
}

func (w *world) client(user, path string, content []byte) *client {
	return &client{w: w, path: path, content: content, header: http.Header{"User": {user}, "Tenant": {"acme"}}}
}

func (c *client) with(name, value string) *client {
	changed := *c
	changed.header = c.header.Clone()
	changed.header.Set(name, value)
	return &changed
}

// do makes a request and returns the status and the answer.
func (c *client) do(t testing.TB, method, query, kind string, body []byte) (int, []byte) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, c.path+query, bytes.NewReader(body))
	for name, values := range c.header {
		r.Header[name] = values
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	answer := httptest.NewRecorder()
	c.w.handler.ServeHTTP(answer, r)
	if answer.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%s %s may be cached", method, query)
	}
	return answer.Code, answer.Body.Bytes()
}

func (c *client) want(t testing.TB, what string, want int, method, query, kind string, body []byte) []byte {
	t.Helper()
	got, answer := c.do(t, method, query, kind, body)
	if got != want {
		t.Errorf("%s: %s %s = %d %s, want %d\n%s", what, method, query, got, answer, want, c.w.log.String())
	}
	return answer
}

func (c *client) begin(t testing.TB) {
	t.Helper()
	about := fmt.Sprintf(`{"name": "a scan.bin", "type": "application/x-scan", "size": %d}`, len(c.content))
	answer := c.want(t, "begin", http.StatusCreated, http.MethodPost, "", "application/json", []byte(about))
	must(t, json.Unmarshal(answer, &c.plan))
	c.header.Set("Upload-Token", c.plan.Token)
}

func (c *client) part(n int) (query string, content []byte) {
	from := int64(n-1) * c.plan.PartSize
	return fmt.Sprint("?part=", n), c.content[from:min(from+c.plan.PartSize, int64(len(c.content)))]
}

func (c *client) put(t testing.TB, what string, want, n int) {
	t.Helper()
	query, content := c.part(n)
	c.want(t, what, want, http.MethodPut, query, "", content)
}

func (c *client) finish(t testing.TB, what string, want int) (id string) {
	t.Helper()
	var a struct{ ID, Name, Type string }
	answer := c.want(t, what, want, http.MethodPost, "?finish", "", nil)
	if want == http.StatusOK {
		must(t, json.Unmarshal(answer, &a))
		if a.Name != "a scan.bin" {
			t.Errorf("%s: attached as %s", what, answer)
		}
	}
	return a.ID
}

func (w *world) holds(t testing.TB, id string, want []byte) {
	t.Helper()
	a, err := w.manager.Find(t.Context(), id)
	must(t, err)
	f, err := w.manager.Open(t.Context(), a)
	must(t, err)
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
		t.Errorf("file %s holds %d bytes, %v, want %d", id, len(got), err, len(want))
	}
}

func random(n int) []byte {
	out := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(out)
	return out
}

// A file of any size is the same afterwards, whatever the order of its parts.
func TestThrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, size := range []int{0, 1, files.ChunkSize, 2*files.ChunkSize - 1, 2 * files.ChunkSize, 2*files.ChunkSize + 1, 200_000} {
		c := w.client("ada", "/customers/7/scans", random(size))
		c.begin(t)
		if c.plan.Key != nil || c.plan.Parts != size/(2*files.ChunkSize)+1 {
			t.Errorf("the plan for %d bytes is %+v", size, c.plan)
		}
		for _, n := range rand.Perm(c.plan.Parts) {
			c.put(t, "a part", http.StatusNoContent, n+1)
		}
		w.holds(t, c.finish(t, "finish", http.StatusOK), c.content)
	}
}

// What a client does wrong or twice.
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	c := w.client("ada", "/customers/7/license", random(100_000))
	c.begin(t)
	c.put(t, "the first part", http.StatusNoContent, 1)
	c.put(t, "the same again", http.StatusNoContent, 1)
	query, content := c.part(1)
	changed := bytes.Clone(content)
	changed[5] ^= 1
	c.want(t, "the part with other bytes", http.StatusConflict, http.MethodPut, query, "", changed)
	c.want(t, "a short part", http.StatusRequestEntityTooLarge, http.MethodPut, "?part=2", "", content[1:])
	c.want(t, "a long part", http.StatusRequestEntityTooLarge, http.MethodPut, "?part=2", "", append(bytes.Clone(content), 1))
	for _, n := range []string{"0", "-1", "5", "x", ""} {
		c.want(t, "part "+n, http.StatusBadRequest, http.MethodPut, "?part="+n, "", content)
	}
	c.want(t, "another method", http.StatusBadRequest, http.MethodPatch, "", "", nil)
	c.want(t, "no JSON", http.StatusBadRequest, http.MethodPost, "?part=2", "text/plain", []byte(`{}`))
	c.want(t, "no SHA-256", http.StatusBadRequest, http.MethodPost, "?part=2", "application/json", []byte(`{"sha256": "00"}`))
	c.finish(t, "too early", http.StatusConflict)
	if got := c.want(t, "what is missing", http.StatusOK, http.MethodGet, "", "", nil); string(got) != "{\"missing\":[2,3,4]}\n" {
		t.Errorf("missing: %s", got)
	}
	for what, other := range map[string]struct {
		c    *client
		want int
	}{
		"nobody":             {c.with("User", ""), http.StatusUnauthorized},
		"one who may not":    {c.with("User", "eve"), http.StatusForbidden},
		"another user":       {c.with("User", "bob"), http.StatusForbidden},
		"another tenant":     {c.with("Tenant", "umbrella"), http.StatusForbidden},
		"no token":           {c.with("Upload-Token", ""), http.StatusForbidden},
		"a changed token":    {c.with("Upload-Token", strings.ToUpper(c.plan.Token)), http.StatusForbidden},
		"a long token":       {c.with("Upload-Token", strings.Repeat("A", 5000)), http.StatusForbidden},
		"another record":     {&client{w: w, path: "/customers/8/license", header: c.header, content: c.content, plan: c.plan}, http.StatusForbidden},
		"another attachment": {&client{w: w, path: "/customers/7/scans", header: c.header, content: c.content, plan: c.plan}, http.StatusForbidden},
	} {
		other.c.put(t, what, other.want, 2)
		other.c.want(t, what, other.want, http.MethodGet, "", "", nil)
		other.c.want(t, what, other.want, http.MethodDelete, "", "", nil)
		if what != "no token" { // which begins another
			other.c.finish(t, what, other.want)
		}
	}
	for n := 2; n <= c.plan.Parts; n++ {
		c.put(t, "the rest", http.StatusNoContent, n)
	}
	w.failing = 1
	c.finish(t, "while the commit fails", http.StatusInternalServerError)
	if !strings.Contains(w.log.String(), errCommit.Error()) {
		t.Errorf("the log lacks the error: %s", w.log.String())
	}
	id := c.finish(t, "again", http.StatusOK)
	w.holds(t, id, c.content)
	if again := c.finish(t, "a replay", http.StatusOK); again != id {
		t.Errorf("a replay attached %s, and the file is %s", again, id)
	}
	c.put(t, "a part of an attached file", http.StatusGone, 1)
	c.want(t, "missing parts of an attached file", http.StatusGone, http.MethodGet, "", "", nil)
	c.want(t, "giving up an attached file", http.StatusNoContent, http.MethodDelete, "", "", nil)
	w.holds(t, id, c.content)

	second := w.client("ada", "/customers/7/license", random(5))
	second.begin(t)
	second.put(t, "a second license", http.StatusNoContent, 1)
	second.finish(t, "a second license", http.StatusConflict)
	if replaced := second.with("Replace", "yes").finish(t, "a replacement", http.StatusOK); replaced != id {
		t.Errorf("the replacement is %s, want the ID %s", replaced, id)
	}
	w.holds(t, id, second.content)
	c.finish(t, "the token of a file that was replaced", http.StatusGone)

	for what, about := range map[string]struct {
		body string
		want int
	}{
		"no size":         {`{"name": "x"}`, http.StatusBadRequest},
		"a negative size": {`{"size": -1}`, http.StatusBadRequest},
		"no JSON":         {`size=1`, http.StatusBadRequest},
		"too large":       {`{"size": 1048577}`, http.StatusRequestEntityTooLarge},
		"a long request":  {`{"size": 1, "name": "` + strings.Repeat("x", 20_000) + `"}`, http.StatusBadRequest},
	} {
		w.client("ada", "/customers/7/scans", nil).want(t, what, about.want, http.MethodPost, "", "application/json", []byte(about.body))
	}
	w.client("ada", "/customers/7/scans", nil).want(t, "a form of another site", http.StatusBadRequest, http.MethodPost, "", "text/plain", []byte(`{"size": 1}`))
}

// An upload ends with its token, with its lease, and when it is given up. Then nothing of it
// is left.
func TestEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *attach.Config, o *direct.Options) { o.Expires = time.Second })
	short := w.client("ada", "/customers/7/scans", random(10))
	short.begin(t)
	givenUp := w.client("ada", "/customers/7/scans", random(10))
	givenUp.begin(t)
	givenUp.put(t, "a part", http.StatusNoContent, 1)
	givenUp.want(t, "give up", http.StatusNoContent, http.MethodDelete, "", "", nil)
	givenUp.put(t, "after it was given up", http.StatusGone, 1)
	givenUp.finish(t, "after it was given up", http.StatusGone)
	time.Sleep(2 * time.Second) // tokens end at whole seconds
	short.put(t, "an expired token", http.StatusGone, 1)
	short.finish(t, "an expired token", http.StatusGone)

	swept, err := w.manager.Sweep(t.Context())
	if must(t, err); swept != (attach.Swept{}) {
		t.Errorf("swept before the leases end, while URLs may be valid: %+v", swept)
	}
	_, err = w.db.Exec("UPDATE kms_attachment_objects SET until = 0")
	must(t, err)
	for range 2 {
		_, err = w.manager.Sweep(t.Context())
		must(t, err)
		time.Sleep(5 * time.Millisecond)
	}
	var left int
	must(t, w.db.QueryRow("SELECT (SELECT count(*) FROM kms_attachment_objects) + (SELECT count(*) FROM kms_attachment_parts)").Scan(&left))
	if left != 0 || len(w.memory.Names()) != 0 {
		t.Errorf("left: %d rows, objects %v", left, w.memory.Names())
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	good := direct.Options{Secrets: [][]byte{make([]byte, 32)}}
	for what, build := range map[string]func() (*direct.Uploads[customer], error){
		"no manager":   func() (*direct.Uploads[customer], error) { return direct.New(nil, w.authorize, w.commit, good) },
		"no authorize": func() (*direct.Uploads[customer], error) { return direct.New(w.manager, nil, w.commit, good) },
		"no commit":    func() (*direct.Uploads[customer], error) { return direct.New(w.manager, w.authorize, nil, good) },
		"no secret": func() (*direct.Uploads[customer], error) {
			return direct.New(w.manager, w.authorize, w.commit, direct.Options{})
		},
		"a short secret": func() (*direct.Uploads[customer], error) {
			return direct.New(w.manager, w.authorize, w.commit, direct.Options{Secrets: [][]byte{make([]byte, 31)}})
		},
		"a negative time": func() (*direct.Uploads[customer], error) {
			return direct.New(w.manager, w.authorize, w.commit, direct.Options{Secrets: good.Secrets, Expires: -1})
		},
	} {
		if _, err := build(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", what, err)
		}
	}
	for _, h := range []*direct.Uploads[customer]{nil, {}} {
		answer := httptest.NewRecorder()
		if h.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)); answer.Code != http.StatusInternalServerError {
			t.Errorf("a zero handler answers %d", answer.Code)
		}
	}
}

func TestScript(t *testing.T) {
	t.Parallel()
	answer := httptest.NewRecorder()
	direct.Script().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/upload.js", nil))
	if answer.Code != http.StatusOK || !strings.HasPrefix(answer.Header().Get("Content-Type"), "text/javascript") || !strings.Contains(answer.Body.String(), "export async function upload(") {
		t.Errorf("the script is %d %v", answer.Code, answer.Header())
	}
}
