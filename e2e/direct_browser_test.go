package e2e

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/direct"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// directPage uploads a file of 20 MiB and an empty one, each sealed here and through the
// program, seals the vectors, and tries what is not allowed.
const directPage = `<!doctype html><script type="module">
import {upload, seal} from "/upload.js"
const size = (20 << 20) + 4321, content = new Uint8Array(size)
for (let i = 0, x = 1; i < size; i++) { x = Math.imul(x, 1664525) + 1013904223 | 0; content[i] = x >>> 24 }
const hex = async (bytes) => Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)), (b) => b.toString(16).padStart(2, "0")).join("")
const raw = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))
async function vector(v) {
	const file = new Blob([raw(v.file)]), found = []
	const key = await crypto.subtle.importKey("raw", raw(v.key), "AES-GCM", false, ["encrypt"])
	for (const chunks of [1, 2, 3]) {
		const plan = {size: file.size, partSize: chunks * 16384, parts: Math.ceil((Math.floor(file.size / 16384) + 1) / chunks), prefix: raw(v.prefix), nonce: raw(v.nonce), key}
		const parts = []
		for (let n = plan.parts; n > 0; n--) parts.unshift(await seal(plan, file, n))
		found.push(await hex(await new Blob(parts).arrayBuffer()))
	}
	return found
}
async function main() {
	const result = {sha256: await hex(content), attached: {}, progress: [], vectors: []}
	for (const v of await (await fetch("/vectors")).json()) result.vectors.push(await vector(v))
	for (const to of ["direct", "through"]) {
		result.attached[to] = await upload("/" + to, new File([content], "scan of " + to + ".bin", {type: "application/x-scan"}), {
			progress: (done, total) => to === "direct" && result.progress.push([done, total]), tries: 6,
		})
		result.attached["empty " + to] = await upload("/" + to, new File([], "empty.txt", {type: "text/plain"}))
	}
	let plan, sent = 0
	const file = new File([content], "resumed.bin")
	await upload("/through", file, {begun: (p) => { plan = p }, parallel: 1, progress: (done) => { if (done > 0) throw new Error("the page is closed") }}).catch(() => {})
	result.attached.resumed = await upload("/through", file, {resume: JSON.parse(JSON.stringify(plan)), progress: () => sent++})
	result.sent = sent - 1
	const aborted = new AbortController()
	result.refused = await upload("/direct", new File([content], "x"), {signal: aborted.signal, progress: (done) => done && aborted.abort()}).catch((e) => e.name)
	result.unauthorized = await upload("/nobody", new File([content], "x")).catch((e) => e.status)
	result.kept = [...Object.keys(localStorage), ...Object.keys(sessionStorage), ...(await indexedDB.databases()), document.cookie].join("")
	return result
}
main().catch((e) => ({error: String(e) + e.stack})).then((result) => fetch("/test/result", {method: "POST", body: JSON.stringify(result)}))
</script>`

type directCustomer struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

// directWorld is a program with one customer whose files are in S3.
type directWorld struct {
	db      *sql.DB
	manager *attach.Manager[directCustomer]
	refused error // what authorize says
}

func newDirectWorld(t *testing.T, endpoint string) *directWorld {
	t.Helper()
	db := openDirectSQLite(t)
	model, err := field.NewModel[directCustomer](kmstest.Box(t), field.Config{Table: "customers", Files: true})
	must(t, err)
	_, err = db.Exec("CREATE TABLE customers (id integer PRIMARY KEY, encrypted_kms_key text); INSERT INTO customers (id) VALUES (7)")
	must(t, err)
	manager, err := attach.New(t.Context(), db, field.SQLite, model, attach.Config{Many: []string{"scans"}, Buckets: map[string]attach.Bucket{"s3": partsBucket(t, endpoint)}})
	must(t, err)
	must(t, manager.CreateTables(t.Context()))
	return &directWorld{db: db, manager: manager}
}

func openDirectSQLite(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "test.sqlite3")+"?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)&_txlock=immediate")
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func (w *directWorld) uploads(t *testing.T, through bool) *direct.Uploads[directCustomer] {
	t.Helper()
	h, err := direct.New(w.manager,
		func(r *http.Request) (g direct.Grant[directCustomer], err error) {
			c := &directCustomer{}
			err = w.db.QueryRowContext(r.Context(), "SELECT id, encrypted_kms_key FROM customers WHERE id = 7").Scan(&c.ID, &c.Key)
			return direct.Grant[directCustomer]{User: "ada", Row: c, Name: "scans"}, err
		},
		func(ctx context.Context, _ direct.Grant[directCustomer], p *attach.Pending[directCustomer]) (*attach.Attachment, error) {
			tx, err := w.db.BeginTx(ctx, nil)
			if err != nil {
				return nil, err
			}
			defer tx.Rollback()
			a, err := p.Commit(ctx, tx)
			if err == nil {
				err = tx.Commit()
			}
			return a, err
		}, direct.Options{Secrets: [][]byte{bytes.Repeat([]byte("s"), 32)}, Through: through})
	must(t, err)
	return h
}

// browserStore is what stands between browser and store: it allows requests of pages, as the
// CORS rules of a bucket do, notes what was put, and spoils some of it.
type browserStore struct {
	mu      sync.Mutex
	puts    map[string][][]byte // SHA-256 of the bodies by object and part
	answers map[int]int         // by status
	failing int                 // the next requests to put that fail
	spoil   int                 // the next bodies whose first byte changes on the way
}

func (s *browserStore) serve(t *testing.T, endpoint string) string {
	to, err := url.Parse(endpoint)
	must(t, err)
	proxy := &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0), // the browser ends requests that it needs no more
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Method == http.MethodPut {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.answers[r.StatusCode]++
			}
			for name := range r.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					r.Header.Del(name)
				}
			}
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Access-Control-Allow-Methods", "PUT")
			w.Header().Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
			return
		}
		if r.Method == http.MethodPut && r.Header.Get("Origin") != "" {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return // the browser went away
			}
			s.mu.Lock()
			sum := sha256.Sum256(body)
			key := r.URL.Path + " " + r.URL.Query().Get("partNumber")
			s.puts[key] = append(s.puts[key], sum[:])
			s.failing--
			fail := s.failing >= 0
			if !fail {
				s.spoil--
			}
			if !fail && s.spoil >= 0 {
				body[0] ^= 1
			}
			s.mu.Unlock()
			if fail {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// pageVectors are the objects of testdata/files as a page seals them.
func pageVectors(t *testing.T) (page []map[string][]byte, want []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(vectors.Root(), "testdata", "files", "objects.json"))
	must(t, err)
	var all struct {
		Cases []struct {
			Key            vectors.Hex
			FileID         vectors.Hex `json:"file_id"`
			Salt           vectors.Hex
			PlaintextLabel string `json:"plaintext_label"`
			PlaintextSize  int    `json:"plaintext_size"`
			SHA256         string
		}
	}
	must(t, json.Unmarshal(text, &all))
	for _, c := range all.Cases {
		header := append([]byte("\x89KEF\r\n\x1a\n\x01\x01\x00\x00\x00\x00\x00\x20"), c.FileID...)
		okm, err := hkdf.Expand(sha512.New, c.Key, "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"+string(c.Salt)+string(header), 76)
		must(t, err)
		page = append(page, map[string][]byte{
			"prefix": append(append(header, c.Salt...), okm[44:]...), "key": okm[:32], "nonce": okm[32:44],
			"file": sha3.SumSHAKE256([]byte(c.PlaintextLabel), c.PlaintextSize),
		})
		want = append(want, c.SHA256)
	}
	return page, want
}

func TestDirectUploadInChromium(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	servers := s3Endpoints(t)
	endpoint, strict := servers["versitygw"], true
	if endpoint == "" {
		endpoint, strict = servers["gofakes3"], false
	}
	store := &browserStore{puts: make(map[string][][]byte), answers: make(map[int]int), failing: 2}
	if strict {
		store.spoil = 2 // which gofakes3 would not notice
	}
	w := newDirectWorld(t, store.serve(t, endpoint))
	page, want := pageVectors(t)
	mux := http.NewServeMux()
	mux.Handle("GET /upload.js", direct.Script())
	mux.Handle("/direct", w.uploads(t, false))
	mux.Handle("/through", w.uploads(t, true))
	mux.Handle("/nobody", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusUnauthorized) }))
	mux.HandleFunc("GET /vectors", func(w http.ResponseWriter, r *http.Request) { json.NewEncoder(w).Encode(page) })

	type attached struct {
		ID, Name, Type string
		Size           int64
	}
	var result struct {
		SHA256       string
		Attached     map[string]attached
		Progress     [][2]int64
		Vectors      [][]string
		Sent         int
		Refused      string
		Unauthorized int
		Kept         string
	}
	browser.report(t, directPage, mux, &result)
	const size = 20<<20 + 4321
	if len(result.Vectors) != len(want) || len(want) == 0 {
		t.Fatalf("the page sealed %d vectors of %d", len(result.Vectors), len(want))
	}
	for i, found := range result.Vectors {
		if fmt.Sprint(found) != fmt.Sprint([]string{want[i], want[i], want[i]}) {
			t.Errorf("vector %d: sealed in the page %v, want %s", i, found, want[i])
		}
	}
	for name, sum := range map[string]string{"direct": result.SHA256, "through": result.SHA256, "resumed": result.SHA256, "empty direct": emptySHA256, "empty through": emptySHA256} {
		a := w.find(t, result.Attached[name].ID)
		f, err := w.manager.Open(t.Context(), a)
		must(t, err)
		hash := sha256.New()
		n, err := io.Copy(hash, f)
		must(t, err)
		must(t, f.Close())
		if got := hex.EncodeToString(hash.Sum(nil)); got != sum || n != a.Size || n != result.Attached[name].Size || sum == result.SHA256 && n != size {
			t.Errorf("%s: the file opens as %d bytes %s, want %d, %s", name, n, got, a.Size, sum)
		}
	}
	if a := result.Attached["direct"]; a.Name != "scan of direct.bin" || a.Type != "application/x-scan" {
		t.Errorf("attached as %+v", a)
	}
	if last := result.Progress[len(result.Progress)-1]; last != [2]int64{size, size} || len(result.Progress) != 4 {
		t.Errorf("progress = %v", result.Progress)
	}
	if result.Sent != 2 || result.Refused != "AbortError" || result.Unauthorized != http.StatusUnauthorized || result.Kept != "" {
		t.Errorf("the page reports %d parts sent again, %q, %d, kept %q", result.Sent, result.Refused, result.Unauthorized, result.Kept)
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	again := 0
	for part, sums := range store.puts {
		again += len(sums) - 1
		for _, sum := range sums {
			if !bytes.Equal(sum, sums[0]) {
				t.Errorf("%s was sent with two contents", part)
			}
		}
	}
	if strict && (again < 4 || store.answers[http.StatusBadRequest] != 2) {
		t.Errorf("%d parts were sent again, and the store answered %v", again, store.answers)
	}
	t.Logf("%d objects and parts, %d sent again, the store answered %v; strict: %t", len(store.puts), again, store.answers, strict)
}

var emptySHA256 = hex.EncodeToString(sha256.New().Sum(nil))

func (w *directWorld) find(t *testing.T, id string) *attach.Attachment {
	t.Helper()
	a, err := w.manager.Find(t.Context(), id)
	must(t, err)
	return a
}
