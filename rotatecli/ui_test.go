package rotatecli_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// sections are what the page asks for.
var sections = []string{"runs", "versions", "keys", "branches", "inventory", "history"}

// page is the handler of a night's program.
type page struct {
	*night
	handler http.Handler
}

func (n *night) page(models ...field.AnyModel) page {
	if len(models) == 0 {
		models = n.models(n.box(n.current))
	}
	db := n.db.DB
	program := rotatecli.Program{Name: "ops", Open: func(context.Context) (*rotatecli.Database, error) {
		return &rotatecli.Database{DB: db, Dialect: n.dialect, Models: models}, nil
	}}
	log := slog.New(slog.NewTextHandler(n.Output(), nil))
	return page{n, program.Handler(n.Context(), log, func(*http.Request) rotatecli.Access { return rotatecli.ControlAccess })}
}

func (p page) ask(method, path string) (status int, text string) {
	request := httptest.NewRequest(method, "http://ops.example/"+path, nil)
	if method == http.MethodPost {
		request.Header.Set("Origin", "http://ops.example")
		request.Header.Set("Kmsencrypted-Ui", "1")
	}
	answer := httptest.NewRecorder()
	p.handler.ServeHTTP(answer, request)
	return answer.Code, answer.Body.String()
}

// shows asks for a section until its text has what it should.
func (p page) shows(section string, wants ...string) (text string) {
	p.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, text = p.ask("GET", "api/"+section)
		missing := ""
		for _, want := range wants {
			if !strings.Contains(text, want) {
				missing = want
			}
		}
		if missing == "" {
			return text
		}
		if time.Now().After(deadline) {
			p.Fatalf("%s lacks %q:\n%s", section, missing, text)
		}
	}
}

// A word that stands for everything that the page must not show: it is in a value, the
// primary keys, the tenant and so the contexts, the branches, the failed records and
// their reasons, the condition of a part, the reason why a run waits, and what a key
// service answers.
const canaryWord = "KANARIENVOGEL"

func TestPageShowsNoSecret(t *testing.T) {
	t.Parallel()
	n := newNight(t, nil)
	ctx, dir := n.Context(), t.TempDir()
	kms, err := local.Create(filepath.Join(dir, "kms.key"))
	n.must(err)
	keysDB := n.connect("file:" + filepath.Join(dir, "keys.sqlite3") + "?_pragma=busy_timeout(20000)")
	n.must(branch.CreateTables(ctx, keysDB.DB, field.SQLite, branch.Limits{MaxAge: time.Minute}))
	store, err := branch.NewSQL(keysDB.DB, field.SQLite)
	n.must(err)
	receipts, err := branch.CreateReceipts(ctx, filepath.Join(dir, "receipts"), store)
	n.must(err)
	under, err := kmsencrypted.NewBox(kms)
	n.must(err)
	branches, err := branch.Open(ctx, store, under, branch.Options{Of: branch.ByPair("tenant"), Receipts: receipts})
	n.must(err)
	n.versions[3] = kmsencrypted.Version{Provider: branches}
	modelAt := func(version int) *field.Model[document] {
		m, err := field.NewModel[document](n.box(version), field.Config{Table: "documents", Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"tenant": s.Record.(*document).Tenant, "id": s.ID[0]}, nil
		}})
		n.must(err)
		return m
	}
	n.exec("CREATE TABLE documents (code text PRIMARY KEY, tenant text, encrypted_kms_key text, body_ciphertext blob)")
	for i := range 40 {
		d := document{Code: fmt.Sprint(canaryWord, "-", i), Tenant: canaryWord, Body: field.New([]byte(canaryWord))}
		version := 2
		if i%4 == 0 {
			version = 3
		}
		n.must(modelAt(version).Seal(ctx, &d))
		_, err := n.db.Exec("INSERT INTO documents VALUES (?, ?, ?, ?)", d.Code, d.Tenant, d.Key, d.Body)
		n.must(err)
	}
	n.exec("UPDATE documents SET encrypted_kms_key = 'v2:" + canaryWord + "' WHERE code LIKE '%-1'")
	n.models = func(*kmsencrypted.Box) []field.AnyModel { return []field.AnyModel{modelAt(1)} }
	n.current = 1
	n.ops(2, "rotate run --to 1 --tenant "+canaryWord)
	quoting := &kmsencrypted.Error{Op: "wrap", Record: "code=" + canaryWord, Err: kmsencrypted.ErrThrottled, Cause: errors.New(canaryWord)}
	n.exec("UPDATE kms_rotations SET waiting = '" + quoting.Error() + "', state = 'active', active = 1, ended = NULL, verified = NULL WHERE id = (SELECT id FROM kms_rotations ORDER BY started DESC LIMIT 1)")
	n.old.Set(kmstest.Fail(fmt.Errorf("%w: %s", kmsencrypted.ErrDenied, canaryWord), 1))

	p := n.page()
	p.shows("keys", "version 3")
	if code, text := p.ask("POST", "api/examine"); code != http.StatusOK {
		t.Fatalf("examine: %d %s", code, text)
	}
	shown := []string{
		p.shows("keys", `"examining":false,"examined":"`, "may not encrypt", `"class":"denied"`, "the key of … opens"),
		p.shows("runs", `"waiting":"throttled by the key service"`, `"class":"malformed"`, `"part":true`, "Damaged"),
		p.shows("versions", `"retire":[{"version":1`),
		p.shows("branches", `"branches":1`),
		p.shows("inventory", "body_ciphertext", "v1 "),
		p.shows("history", `"part":true`),
	}
	for _, action := range []string{"pause", "resume", "explode", "cancel"} {
		_, text := p.ask("POST", "api/runs/documents/"+p.unfinished()+"/"+action)
		_, other := p.ask("POST", "api/runs/"+canaryWord+"/"+canaryWord+"/"+action)
		shown = append(shown, text, other)
	}
	n.exec("DROP TABLE documents") // an error for every section
	time.Sleep(time.Second)
	for _, section := range sections {
		shown = append(shown, p.shows(section, `"data":`))
	}
	key, err := os.ReadFile(filepath.Join(dir, "kms.key"))
	n.must(err)
	_, digits, _ := strings.Cut(strings.TrimSpace(string(key)), " ")
	for _, text := range shown {
		for _, secret := range []string{canaryWord, digits} {
			if strings.Contains(text, secret) {
				t.Errorf("the page shows a secret of %d bytes:\n%s", len(secret), text)
			}
		}
	}
}

// unfinished is the id of the unfinished run.
func (n *night) unfinished() (id string) {
	n.Helper()
	err := n.db.Get(&id, "SELECT id FROM kms_rotations WHERE active = 1")
	if errors.Is(err, sql.ErrNoRows) {
		return "none"
	}
	n.must(err)
	return id
}

// The page shows what the commands print, from no run to a version that may be retired,
// and changes only the run that it was told.
func TestPageFollowsARun(t *testing.T) {
	t.Parallel()
	n := newNight(t, nil)
	n.fill(40)
	p := n.page()
	p.shows("runs", `"state":"no run yet"`, `"remaining":40`, `"to":"v2"`) // no tables of rotations either
	p.shows("history", `"data":[]`)
	p.shows("versions", `"version":1,"may":false,"waits":false,"needs":["customers: 40 keys at it or below: rotate run"]`, `"needs":["customers: it writes version 2"]`)

	n.ops(0, run+" --limit 10 --workers 1 --batch 10")
	text := p.shows("runs", `"state":"active"`, `"written":10`, "Nobody is at work")
	var answer struct {
		Data []struct{ Planned, Calls int64 }
	}
	n.must(json.Unmarshal([]byte(text), &answer))
	if answer.Data[0].Planned != 40 || answer.Data[0].Calls < 20 {
		t.Errorf("planned %d, %d calls: %s", answer.Data[0].Planned, answer.Data[0].Calls, text)
	}
	n.current = 1 // a program that was not deployed yet, or no longer
	n.page().shows("runs", `"to":"v2","current":"v1"`, "This program writes version 1, and the run goes to 2")
	n.current = 2
	id := n.unfinished()
	for _, test := range []struct {
		path string
		want int
		says string
	}{
		{"customers/" + id + "/stop", 404, "no such action"},
		{"orders/" + id + "/pause", 404, "no such table"},
		{"customers/another/pause", 409, "this run is over"},
		{"customers/" + id + "/pause", 200, "customers: paused."},
	} {
		if code, text := p.ask("POST", "api/runs/"+test.path); code != test.want || !strings.Contains(text, test.says) {
			t.Errorf("POST %s = %d %s, want %d %s", test.path, code, text, test.want, test.says)
		}
	}
	p.shows("runs", `"state":"paused"`)
	n.ops(3, run)
	if code, _ := p.ask("POST", "api/runs/customers/"+id+"/resume"); code != 200 {
		t.Errorf("resume = %d", code)
	}
	n.ops(0, run)
	p.shows("runs", `"state":"done"`, `"written":40`)
	if code, _ := p.ask("POST", "api/runs/customers/"+id+"/cancel"); code != 409 {
		t.Errorf("cancel of a run that is over = %d, want 409", code)
	}
	for _, command := range []string{"rotate verify", "rotate clear-journal --grace 0s", "versions retire 1"} {
		n.ops(0, command)
	}
	p.shows("versions", `{"version":1,"may":true,"waits":false,"needs":[]}`, "backups and replicas")
	p.shows("runs", `"verified":"2`, `"remaining":0`) // counted again at the end
}

// Where a key is chosen for each record, the page says so, and follows the run.
func TestPageWithTenants(t *testing.T) {
	t.Parallel()
	n := newNight(t, nil)
	n.fill(10)
	for number, v := range n.versions {
		provider := v.Provider
		n.versions[number] = kmsencrypted.Version{ProviderFor: func(kmsencrypted.Subject, kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
			return provider, nil
		}}
	}
	p := n.page()
	p.shows("keys", "version 1: chosen for each record")
	p.shows("inventory", "chosen for each record")
	n.ops(0, run)
	p.shows("runs", `"state":"done"`, `"written":10`)
	if code, _ := p.ask("POST", "api/examine"); code != 200 {
		t.Fatal("no examination")
	}
	p.shows("keys", "not tried")
}

// A right that is missing is named, and the rest is shown.
func TestPageWithoutRightsPostgres(t *testing.T) {
	t.Parallel()
	n := newNight(t, onPostgres)
	n.fill(10)
	n.ops(0, run+" --limit 5 --workers 1 --batch 5")
	name, db := n.role()
	n.exec("GRANT SELECT ON customers TO " + name)
	owner := n.db
	n.db = db
	p := n.page()
	n.db = owner
	p.shows("runs", "may not read kms_rotations")
	p.shows("versions", `"counted":"2`)
	n.exec("GRANT SELECT ON kms_rotations, kms_rotation_shards, kms_rotation_failures, kms_tables TO " + name)
	p.shows("runs", `"state":"active"`)
	if code, text := p.ask("POST", "api/runs/customers/"+n.unfinished()+"/pause"); code != 503 || !strings.Contains(text, "lacks a right") || !strings.Contains(text, "kms_rotations") {
		t.Errorf("pause without the right = %d %s", code, text)
	}
	n.exec("REVOKE SELECT ON customers FROM " + name)
	n.db = db
	p = n.page()
	n.db = owner
	p.shows("versions", "lacks a right", "customers")
}

// A table of a program that is started before its table: the page says what is missing,
// and recovers.
func TestPageRecovers(t *testing.T) {
	t.Parallel()
	n := newNight(t, nil)
	p := n.page()
	if text := p.shows("runs", `"problem":"`); strings.Contains(text, `"at":`) {
		t.Errorf("there is no table, and yet %s", text)
	}
	n.fill(3)
	p.shows("runs", `"remaining":3`)
}

// Where the program calls the key service before it opens its tables, the page says what
// kind of error that is.
func TestPageWithoutKeyService(t *testing.T) {
	t.Parallel()
	n := newNight(t, nil)
	program := rotatecli.Program{Name: "ops", Open: func(context.Context) (*rotatecli.Database, error) {
		return nil, &kmsencrypted.Error{Op: "probe", Err: kmsencrypted.ErrUnavailable, Cause: context.DeadlineExceeded}
	}}
	p := page{n, program.Handler(n.Context(), nil, func(*http.Request) rotatecli.Access { return rotatecli.ReadAccess })}
	p.shows("runs", "calls a key service before it opens the tables, which fails: no answer in time")
}

// The command serves the page until it is interrupted, makes the token, and refuses what
// would show the page to everybody.
func TestUICommand(t *testing.T) {
	t.Parallel()
	n := newNight(t, nil)
	n.fill(3)
	token := filepath.Join(t.TempDir(), "token")
	read, write := io.Pipe()
	ctx, interrupt := context.WithCancel(n.Context())
	defer interrupt()
	ended := make(chan int, 1)
	program := rotatecli.Program{Name: "ops", Stdout: write, Stderr: t.Output(), Open: func(context.Context) (*rotatecli.Database, error) {
		return &rotatecli.Database{DB: n.db.DB, Dialect: n.dialect, Models: n.models(n.box(2))}, nil
	}}
	go func() { ended <- program.Run(ctx, []string{"ui", "--listen", "127.0.0.1:0", "--token-file", token}) }()
	line, err := bufio.NewReader(read).ReadString('\n')
	n.must(err)
	address := strings.TrimSpace(line)
	info, err := os.Stat(token)
	n.must(err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the token has mode %v", info.Mode())
	}
	word, err := os.ReadFile(token)
	n.must(err)
	for given, control := range map[string]string{"": "false", "Bearer wrong": "false", "Bearer " + strings.TrimSpace(string(word)): "true"} {
		request, err := http.NewRequest("GET", address+"api/about", nil)
		n.must(err)
		request.Header.Set("Authorization", given)
		answer, err := http.DefaultClient.Do(request)
		n.must(err)
		text, err := io.ReadAll(answer.Body)
		n.must(err)
		answer.Body.Close()
		if !strings.Contains(string(text), `"control":`+control) {
			t.Errorf("with %q: %s", given, text)
		}
	}
	request, err := http.NewRequest("GET", address, nil)
	n.must(err)
	request.Host = "evil.example"
	answer, err := http.DefaultClient.Do(request)
	n.must(err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("for another host: %s", answer.Status)
	}
	interrupt()
	if code := <-ended; code != rotatecli.ExitDone {
		t.Errorf("it ended with %d", code)
	}
	n.must(os.WriteFile(token, []byte("short"), 0o600))
	for _, wrong := range []string{"ui --listen 0.0.0.0:0", "ui --listen nothing", "ui --token-file " + token} {
		n.ops(rotatecli.ExitUsage, wrong)
	}
}

// A server of one's own shows the page to whom it likes.
func ExampleProgram_Handler() {
	ctx := context.Background()
	db, closeAll := fivePatients(ctx)
	defer closeAll()
	ops := rotatecli.Program{Name: "ops", Open: func(context.Context) (*rotatecli.Database, error) {
		return &rotatecli.Database{DB: db, Dialect: field.SQLite, Models: []field.AnyModel{patientsAt(2)}}, nil
	}}
	page := ops.Handler(ctx, nil, func(r *http.Request) rotatecli.Access {
		if user, _, ok := r.BasicAuth(); ok && user == "ada" { // a session of your server
			return rotatecli.ControlAccess
		}
		return rotatecli.NoAccess
	})
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", page))

	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest("GET", "/ops/api/runs", nil))
	fmt.Println(answer.Code)
	// Output: 401
}
