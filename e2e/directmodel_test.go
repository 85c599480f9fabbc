package e2e

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/direct"
	"github.com/kmsencrypted/kmsencrypted/files/storage"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// errDied is what a call returns at which the server died: before it reached the store, or
// before its answer arrived.
var errDied = errors.New("the server died")

// dying is a store some of whose callers die.
type dying struct {
	attach.PartSigner
	deaths *deaths
	begun  string // the newest object
}

// deaths strike at random.
type deaths struct {
	mu   sync.Mutex // a sweep deletes several objects at once
	rand *rand.Rand
	on   bool
	seen int
}

func (d *deaths) strikes() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	strikes := d.on && d.rand.IntN(5) == 0
	if strikes {
		d.seen++
	}
	return strikes
}

func (d *deaths) around(do func() error) error {
	if d.strikes() {
		return errDied
	}
	err := do()
	if err == nil && d.strikes() {
		err = errDied
	}
	return err
}

func (b *dying) BeginParts(ctx context.Context, name string) (upload string, err error) {
	b.begun = name
	err = b.deaths.around(func() error { upload, err = b.PartSigner.BeginParts(ctx, name); return err })
	return upload, err
}

func (b *dying) PutPart(ctx context.Context, name, upload string, p attach.Part, content []byte) error {
	return b.deaths.around(func() error { return b.PartSigner.PutPart(ctx, name, upload, p, content) })
}

func (b *dying) CompleteParts(ctx context.Context, name, upload string, parts []attach.Part) error {
	return b.deaths.around(func() error { return b.PartSigner.CompleteParts(ctx, name, upload, parts) })
}

func (b *dying) AbortParts(ctx context.Context, name, upload string) error {
	return b.deaths.around(func() error { return b.PartSigner.AbortParts(ctx, name, upload) })
}

func (b *dying) Delete(ctx context.Context, name string) error {
	return b.deaths.around(func() error { return b.PartSigner.Delete(ctx, name) })
}

func (b *dying) Identity(ctx context.Context) (string, error) {
	return b.PartSigner.(attach.Identified).Identity(ctx)
}

// modelUpload is an upload as its client knows it.
type modelUpload struct {
	sealed       bool
	user, record string
	object       string
	content      []byte
	parts        [][]byte // as they are sent: sealed, or of the file
	plan         struct {
		Token              string
		PartSize           int64
		Parts              int
		Prefix, Key, Nonce []byte
	}
	committed map[int][32]byte // of those parts that were taken
	urls      []func() int     // that were given out; each sends its part again
	over      bool             // given up
	tried     bool             // the server may have died after the parts were put together
	id        string           // of the file
}

// directModel is a random program of clients, deaths, retries and replays.
type directModel struct {
	t        *testing.T
	rand     *rand.Rand
	db       *sql.DB
	d        field.Dialect
	manager  *attach.Manager[directCustomer]
	store    *dying
	deaths   *deaths
	handlers [2]http.Handler // seal in the browser, and through the program
	uploads  []*modelUpload
	endpoint string
	log      []string

	mu   sync.Mutex
	puts map[string][32]byte // what the store was sent, by object and part
}

func (m *directModel) sql(query string) string {
	for n := 1; m.d == field.Postgres && strings.Contains(query, "?"); n++ {
		query = strings.Replace(query, "?", fmt.Sprint("$", n), 1)
	}
	return query
}

func newDirectModel(t *testing.T, seed uint64, d field.Dialect, db *sql.DB) *directModel {
	r := rand.New(rand.NewPCG(seed, 5))
	m := &directModel{t: t, rand: r, db: db, d: d, deaths: &deaths{rand: rand.New(rand.NewPCG(seed, 6))}, puts: make(map[string][32]byte)}
	server := newStorageServer(t, m.meet)
	m.endpoint = server.url
	s, err := openStorage(t, server.service("plain", "S3", "prefix: some/"), storage.Options{}).Service("plain")
	must(t, err)
	m.store = &dying{PartSigner: s.Bucket().(attach.PartSigner), deaths: m.deaths}
	model, err := field.NewModel[directCustomer](kmstest.Box(t), field.Config{Table: "customers", Files: true})
	must(t, err)
	_, err = db.Exec("CREATE TABLE customers (id bigint PRIMARY KEY, encrypted_kms_key text)")
	must(t, err)
	_, err = db.Exec("INSERT INTO customers (id) VALUES (7), (8)")
	must(t, err)
	m.manager, err = attach.New(t.Context(), db, d, model, attach.Config{Many: []string{"scans"}, Buckets: map[string]attach.Bucket{"s3": m.store}, PartSize: files.ChunkSize, Grace: time.Millisecond})
	must(t, err)
	must(t, m.manager.CreateTables(t.Context()))
	for i := range m.handlers {
		uploads, err := direct.New(m.manager, m.authorize, m.commit, direct.Options{Secrets: [][]byte{bytes.Repeat([]byte("s"), 32)}, Through: i == 1})
		must(t, err)
		mux := http.NewServeMux()
		mux.Handle("/{id}", uploads)
		m.handlers[i] = mux
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d:\n%s", seed, strings.Join(m.log, "\n"))
		}
	})
	return m
}

// meet sees each part that the store is sent.
func (m *directModel) meet(_ http.ResponseWriter, r *http.Request) bool {
	n := r.URL.Query().Get("partNumber")
	if r.Method != http.MethodPut || n == "" {
		return false
	}
	body, err := io.ReadAll(r.Body)
	must(m.t, err)
	r.Body = io.NopCloser(bytes.NewReader(body))
	m.mu.Lock()
	defer m.mu.Unlock()
	sum, key := sha256.Sum256(body), r.URL.Path+" "+n
	if before, again := m.puts[key]; again && before != sum {
		m.t.Errorf("the store was sent two contents of %s", key)
	}
	m.puts[key] = sum
	return false
}

func (m *directModel) authorize(r *http.Request) (g direct.Grant[directCustomer], err error) {
	c := &directCustomer{}
	err = m.db.QueryRowContext(r.Context(), m.sql("SELECT id, encrypted_kms_key FROM customers WHERE id = ?"), r.PathValue("id")).Scan(&c.ID, &c.Key)
	return direct.Grant[directCustomer]{User: r.Header.Get("User"), Row: c, Name: "scans"}, err
}

func (m *directModel) commit(ctx context.Context, _ direct.Grant[directCustomer], p *attach.Pending[directCustomer]) (*attach.Attachment, error) {
	tx, err := m.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	a, err := p.Commit(ctx, tx)
	if err == nil {
		err = m.deaths.around(tx.Commit)
	}
	return a, err
}

// ask makes a request of a client, possibly in another's name.
func (m *directModel) ask(u *modelUpload, user, record, method, query string, body []byte) (int, []byte) {
	through := 0
	if !u.sealed {
		through = 1
	}
	r := httptest.NewRequestWithContext(m.t.Context(), method, "/"+record+query, bytes.NewReader(body))
	r.Header.Set("User", user)
	r.Header.Set("Content-Type", "application/json")
	if u.plan.Token != "" {
		r.Header.Set("Upload-Token", u.plan.Token)
	}
	answer := httptest.NewRecorder()
	m.handlers[through].ServeHTTP(answer, r)
	m.log = append(m.log, fmt.Sprintf("%s of %s: %s /%s%s = %d", u.object, user, method, record, query, answer.Code))
	return answer.Code, answer.Body.Bytes()
}

// wrong reports an answer that the model does not have. After a death any 500 is right.
func (m *directModel) wrong(what string, got int, want ...int) {
	m.t.Helper()
	for _, w := range want {
		if got == w {
			return
		}
	}
	if got == http.StatusInternalServerError && m.deaths.on {
		return
	}
	m.t.Errorf("%s = %d, want %v", what, got, want)
}

func (m *directModel) begin() {
	u := &modelUpload{sealed: m.rand.IntN(2) == 0, user: []string{"ada", "bob"}[m.rand.IntN(2)], record: []string{"7", "8"}[m.rand.IntN(2)],
		content: make([]byte, m.rand.IntN(4*files.ChunkSize)), committed: make(map[int][32]byte)}
	for i := range u.content {
		u.content[i] = byte(m.rand.Uint32())
	}
	status, answer := m.ask(u, u.user, u.record, http.MethodPost, "", fmt.Appendf(nil, `{"name": "scan", "size": %d}`, len(u.content)))
	if m.wrong("begin", status, http.StatusCreated); status != http.StatusCreated {
		return
	}
	must(m.t, json.Unmarshal(answer, &u.plan))
	u.object = m.store.begun
	for n := range u.plan.Parts {
		u.parts = append(u.parts, m.part(u, n+1))
	}
	m.uploads = append(m.uploads, u)
}

// part is what the client sends of a part.
func (m *directModel) part(u *modelUpload, n int) []byte {
	first := int64(n-1) * u.plan.PartSize
	content := u.content[first:min(first+u.plan.PartSize, int64(len(u.content)))]
	if !u.sealed {
		return content
	}
	block, err := aes.NewCipher(u.plan.Key)
	must(m.t, err)
	aead, err := cipher.NewGCM(block)
	must(m.t, err)
	var out []byte
	if n == 1 {
		out = bytes.Clone(u.plan.Prefix)
	}
	nonce := bytes.Clone(u.plan.Nonce)
	nonce[11] ^= byte(n - 1)
	return aead.Seal(out, nonce, content, nil) // a part is a chunk here
}

func (m *directModel) send(u *modelUpload) {
	n := 1 + m.rand.IntN(u.plan.Parts)
	body := bytes.Clone(u.parts[n-1])
	// In the first place only what is right goes out: the client may not choose the bytes of a
	// part whose request died.
	other := m.rand.IntN(4) == 0 && len(body) > 0 && u.committed[n] != [32]byte{}
	if other {
		body[m.rand.IntN(len(body))] ^= 1
	}
	sum := sha256.Sum256(body)
	want := []int{http.StatusNoContent, http.StatusOK}
	switch {
	case u.over || u.id != "":
		want = []int{http.StatusGone, http.StatusNotFound}
	case other:
		want = []int{http.StatusConflict}
	}
	if u.tried {
		want = append(want, http.StatusGone, http.StatusNotFound)
	}
	query := fmt.Sprint("?part=", n)
	if !u.sealed {
		status, _ := m.ask(u, u.user, u.record, http.MethodPut, query, body)
		m.wrong(fmt.Sprintf("part %d of %s, other bytes: %t", n, u.object, other), status, want...)
		if status == http.StatusNoContent {
			u.committed[n] = sum
		}
		return
	}
	status, answer := m.ask(u, u.user, u.record, http.MethodPost, query, fmt.Appendf(nil, `{"sha256": "%s"}`, hex.EncodeToString(sum[:])))
	m.wrong(fmt.Sprintf("URL of part %d of %s, other bytes: %t", n, u.object, other), status, want...)
	if status != http.StatusOK {
		return
	}
	var to struct {
		URL     string
		Headers map[string]string
	}
	must(m.t, json.Unmarshal(answer, &to))
	header := make(http.Header)
	for name, value := range to.Headers {
		header.Set(name, value)
	}
	put := func() int {
		status, _ := send(m.t, http.MethodPut, to.URL, header, body)
		return status
	}
	u.urls = append(u.urls, put)
	if m.rand.IntN(5) > 0 && put() == http.StatusOK { // or the browser lost it
		u.committed[n] = sum
	}
}

// replay uses a URL again, perhaps after the upload is over.
func (m *directModel) replay(u *modelUpload) {
	if len(u.urls) > 0 {
		status := u.urls[m.rand.IntN(len(u.urls))]()
		m.log = append(m.log, fmt.Sprintf("%s: a URL again = %d", u.object, status))
	}
}

func (m *directModel) finish(u *modelUpload) {
	status, answer := m.ask(u, u.user, u.record, http.MethodPost, "?finish", nil)
	complete := len(u.committed) == u.plan.Parts
	switch {
	case u.id != "":
		m.wrong("finish again", status, http.StatusOK)
	case u.over:
		m.wrong("finish of one that is over", status, http.StatusGone, http.StatusOK) // the death of its commit may have come after it
	case complete:
		m.wrong("finish", status, http.StatusOK)
	default:
		m.wrong("finish too early", status, http.StatusConflict, http.StatusOK) // what was lost may have arrived
	}
	u.tried = u.tried || status == http.StatusInternalServerError
	if status != http.StatusOK {
		return
	}
	var a struct{ ID string }
	must(m.t, json.Unmarshal(answer, &a))
	if u.id != "" && a.ID != u.id {
		m.t.Errorf("%s was attached as %s and as %s", u.object, u.id, a.ID)
	}
	u.id = a.ID
	m.holds(u)
}

func (m *directModel) holds(u *modelUpload) {
	m.t.Helper()
	a, err := m.manager.Find(m.t.Context(), u.id)
	must(m.t, err)
	f, err := m.manager.Open(m.t.Context(), a)
	must(m.t, err)
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, u.content) || fmt.Sprint(a.RecordID) != "["+u.record+"]" {
		m.t.Errorf("%s of record %v holds %d bytes, %v, want %d for record %s", u.object, a.RecordID, len(got), err, len(u.content), u.record)
	}
}

// steal tries a token in another's name, and for another record.
func (m *directModel) steal(u *modelUpload) {
	user, record := map[string]string{"ada": "bob", "bob": "ada"}[u.user], u.record
	if m.rand.IntN(2) == 0 {
		user, record = u.user, map[string]string{"7": "8", "8": "7"}[u.record]
	}
	for _, request := range [][2]string{{http.MethodPut, "?part=1"}, {http.MethodPost, "?part=1"}, {http.MethodPost, "?finish"}, {http.MethodGet, ""}, {http.MethodDelete, ""}} {
		if status, _ := m.ask(u, user, record, request[0], request[1], u.parts[0]); status != http.StatusForbidden {
			m.t.Errorf("%v with a stolen token = %d, want 403", request, status)
		}
	}
}

func (m *directModel) giveUp(u *modelUpload) {
	status, _ := m.ask(u, u.user, u.record, http.MethodDelete, "", nil)
	m.wrong("give up", status, http.StatusNoContent)
	var state string
	err := m.db.QueryRow(m.sql("SELECT state FROM kms_attachment_objects WHERE object = ?"), u.object).Scan(&state)
	u.over = u.over || err == nil && state == "aborting"
}

// expire lets the lease of an upload end, and sweeps.
func (m *directModel) expire(u *modelUpload) {
	result, err := m.db.Exec(m.sql("UPDATE kms_attachment_objects SET until = 0 WHERE object = ?"), u.object)
	must(m.t, err)
	if n, err := result.RowsAffected(); err == nil && n > 0 {
		u.over = true
	}
	m.sweep()
}

func (m *directModel) sweep() {
	swept, err := m.manager.Sweep(m.t.Context())
	m.log = append(m.log, fmt.Sprintf("sweep = %+v, %v", swept, err))
	if err != nil && !m.deaths.on {
		m.t.Error(err)
	}
}

// end looks at everything after all leases are over.
func (m *directModel) end() {
	m.deaths.on = false
	for _, u := range m.uploads {
		m.replay(u)
	}
	for range 4 {
		_, err := m.db.Exec("UPDATE kms_attachment_objects SET until = 0")
		must(m.t, err)
		m.sweep()
	}
	for _, u := range m.uploads {
		m.replay(u)
		if u.id != "" {
			m.holds(u)
		}
	}
	var listed, parts, attached int
	must(m.t, m.db.QueryRow("SELECT (SELECT count(*) FROM kms_attachment_objects), (SELECT count(*) FROM kms_attachment_parts), (SELECT count(*) FROM kms_attachments)").Scan(&listed, &parts, &attached))
	objects := 0
	for _, err := range m.store.PartSigner.(attach.Lister).List(m.t.Context()) {
		must(m.t, err)
		objects++
	}
	if listed != 0 || parts != 0 || objects != attached {
		m.t.Errorf("%d objects and %d parts are listed, and %d objects are there for %d files", listed, parts, objects, attached)
	}
	if left := m.multipart(); left != 0 {
		m.t.Errorf("the store has %d uploads that nobody finishes", left)
	}
}

// multipart counts the uploads that the store has.
func (m *directModel) multipart() int {
	client := s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: &m.endpoint, UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider("id0000", "secret00", "")})
	out, err := client.ListMultipartUploads(m.t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(s3Name)})
	must(m.t, err)
	return len(out.Uploads)
}

// Clients upload in parts, send parts again and others of the same number, use URLs and tokens
// again, and steal them, while servers die at calls to the store and at commits, and leases
// end. The store gets one content of each part, no file is attached twice or to another
// record, and nothing is left behind.
func TestDirectUploadModelPostgresSQLite(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) (*sql.DB, field.Dialect){
		"SQLite": func(t *testing.T) (*sql.DB, field.Dialect) { return openDirectSQLite(t), field.SQLite },
		"Postgres": func(t *testing.T) (*sql.DB, field.Dialect) {
			db, err := sql.Open("pgx", dbserver.Postgres(t))
			must(t, err)
			t.Cleanup(func() { db.Close() })
			return db, field.Postgres
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 4 {
				seed := rand.Uint64()
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					db, d := open(t)
					runDirectModel(newDirectModel(t, seed, d, db))
				})
			}
		})
	}
}

func runDirectModel(m *directModel) {
	steps := []func(*modelUpload){m.send, m.send, m.send, m.send, m.send, m.send, m.replay, m.finish, m.finish, m.steal, m.giveUp, m.expire}
	for range 700 {
		m.deaths.on = m.rand.IntN(3) == 0
		newest := m.uploads[max(0, len(m.uploads)-6):] // and not those that are long over
		if len(newest) == 0 || m.rand.IntN(12) == 0 {
			m.begin()
			continue
		}
		step := m.rand.IntN(len(steps))
		if step >= len(steps)-2 && m.rand.IntN(3) > 0 {
			step = 0 // most uploads live
		}
		steps[step](newest[m.rand.IntN(len(newest))])
	}
	attached := 0
	for _, u := range m.uploads {
		if u.id != "" {
			attached++
		}
	}
	m.t.Logf("%d uploads, %d attached, %d deaths", len(m.uploads), attached, m.deaths.seen)
	if attached < 3 || m.deaths.seen < 5 || len(m.uploads) < attached+3 {
		m.t.Errorf("%d uploads, %d attached, %d deaths: too few to find anything", len(m.uploads), attached, m.deaths.seen)
	}
	m.end()
}
