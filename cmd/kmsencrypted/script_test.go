package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/nativefield"
	"github.com/kmsencrypted/kmsencrypted/providers"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// TestMain makes the command a program of scripts, as it is for a user.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kmsencrypted": main,
		"interrupted": func() { // the command, interrupted as by Ctrl-C after the first batches
			ctx, cancel := context.WithCancel(context.Background())
			out := &triggered{at: []byte(`"event":"batch"`), then: cancel}
			os.Exit(run(ctx, os.Args[1:], os.Stdin, out, os.Stderr))
		},
	})
}

// triggered writes to standard output and calls a function at a text.
type triggered struct {
	at   []byte
	then func()
}

func (t *triggered) Write(p []byte) (int, error) {
	if bytes.Contains(p, t.at) {
		t.then()
	}
	return os.Stdout.Write(p)
}

// secrets are what no output may hold: the plaintexts of the tables and, added
// by seed and by keygen's scripts, the bytes of keys.
const (
	secretName  = "Countess-of-Lovelace"
	secretPhone = "+44-20-7946-0958"
)

func TestScripts(t *testing.T) {
	t.Parallel()
	clock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		if r.URL.Path == "/wrong" {
			now = now.Add(-20 * time.Minute)
		}
		w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	}))
	t.Cleanup(clock.Close)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("CLOCK", clock.URL)
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"seed":    seed,
			"sql":     execSQL,
			"migrate": migrate,
			"rails":   seedRails,
			"exits":   exits,
			"mode":    mode,
			"secrets": noSecrets,
		},
	})
}

// person is the table as an application knows it.
type person struct {
	ID     int64             `db:"id"`
	Tenant string            `db:"tenant"`
	Key    field.Key         `db:"encrypted_kms_key"`
	Name   field.Of[string]  `db:"name_ciphertext"`
	Phone  field.Of[*string] `db:"phone_ciphertext"`
}

// migrate FOLDER runs the one migration in a folder upwards on app.sqlite3.
func migrate(ts *testscript.TestScript, _ bool, args []string) {
	files, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "*.up.sql"))
	ts.Check(err)
	if len(files) != 1 {
		ts.Fatalf("migrations %v, want one", files)
	}
	text, err := os.ReadFile(files[0])
	ts.Check(err)
	db := open(ts)
	defer db.Close()
	_, err = db.Exec(string(text))
	ts.Check(err)
}

func open(ts *testscript.TestScript) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs("app.sqlite3")+"?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	ts.Check(err)
	return db
}

// seed TABLE ROWS VERSION KEYID fills a table in app.sqlite3 as the application does.
func seed(ts *testscript.TestScript, _ bool, args []string) {
	rows, err := strconv.Atoi(args[1])
	ts.Check(err)
	version, err := strconv.Atoi(args[2])
	ts.Check(err)
	id := args[3]
	if path, ok := strings.CutPrefix(id, "local:"); ok {
		id = "local:" + ts.MkAbs(path)
	}
	provider, err := providers.Open(context.Background(), id)
	ts.Check(err)
	box, err := kmsencrypted.Config{Current: version, Versions: map[int]kmsencrypted.Version{version: {Provider: provider}}}.Box()
	ts.Check(err)
	model, err := field.NewModel[person](box, field.Config{Table: args[0]})
	ts.Check(err)
	db := open(ts)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE IF NOT EXISTS " + args[0] + " (id integer PRIMARY KEY, tenant text, encrypted_kms_key text, name_ciphertext text, phone_ciphertext text)")
	ts.Check(err)
	people := make([]person, rows)
	for i := range people {
		people[i] = person{ID: int64(i + 1), Tenant: "acme", Name: field.New(fmt.Sprint(secretName, i+1))}
		if i%2 == 0 {
			people[i].Phone.Set(new(secretPhone))
		}
	}
	ts.Check(model.Seal(context.Background(), field.Pointers(people)...))
	tx, err := db.Begin()
	ts.Check(err)
	for _, p := range people {
		_, err := tx.Exec("INSERT INTO "+args[0]+" VALUES (?, ?, ?, ?, ?)", p.ID, p.Tenant, p.Key, p.Name, p.Phone)
		ts.Check(err)
	}
	ts.Check(tx.Commit())
}

// user is a table as Rails writes it.
type user struct {
	ID     int64               `db:"id"`
	Key    field.Key           `db:"encrypted_kms_key"`
	Email  field.Of[string]    `db:"email_ciphertext" kms:"lockbox"`
	Visits field.Of[int64]     `db:"visits_ciphertext" kms:"lockbox"`
	Born   field.Of[time.Time] `db:"born_ciphertext" kms:"lockbox,type=date"`
	SSN    field.Of[string]    `db:"encrypted_ssn" kms:"attr_encrypted"`
	SSNIV  field.Part          `db:"encrypted_ssn_iv"`
}

func users(ts *testscript.TestScript) *field.Model[user] {
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: testkey.New(), Format: kmsencrypted.Ruby}}}.Box()
	ts.Check(err)
	model, err := field.NewModel[user](box, field.Config{Table: "users", Name: "User"})
	ts.Check(err)
	return model
}

// rails seed fills the table users in the formats of the Ruby gems under version
// 1; rails check opens all of it under the same, as Rails would.
func seedRails(ts *testscript.TestScript, _ bool, args []string) {
	model, db := users(ts), open(ts)
	defer db.Close()
	born := time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC)
	if args[0] == "seed" {
		_, err := db.Exec("CREATE TABLE users (id integer PRIMARY KEY, encrypted_kms_key text, email_ciphertext text, visits_ciphertext text, born_ciphertext text, encrypted_ssn text, encrypted_ssn_iv text)")
		ts.Check(err)
		for i := range 80 {
			u := user{ID: int64(i + 1), Email: field.New(fmt.Sprint(secretName, i)), Visits: field.New(int64(i)), Born: field.New(born), SSN: field.New(secretPhone)}
			ts.Check(model.Seal(context.Background(), &u))
			// The first user's email has a ciphertext that begins like a native one, as
			// one in 128 does.
			for i == 0 && !beginsLikeNative(ts, u.Email) {
				u.Email.Set(secretName + "0")
				ts.Check(model.Seal(context.Background(), &u))
			}
			_, err := db.Exec("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?)", u.ID, u.Key, u.Email, u.Visits, u.Born, u.SSN, u.SSNIV)
			ts.Check(err)
		}
		return
	}
	rows, err := db.Query("SELECT * FROM users ORDER BY id")
	ts.Check(err)
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var u user
		ts.Check(rows.Scan(&u.ID, &u.Key, &u.Email, &u.Visits, &u.Born, &u.SSN, &u.SSNIV))
		ts.Check(model.Open(context.Background(), &u))
		if u.Email.Must() != fmt.Sprint(secretName, n) || u.Visits.Must() != int64(n) || !u.Born.Must().Equal(born) || u.SSN.Must() != secretPhone {
			ts.Fatalf("user %d holds something else", u.ID)
		}
	}
	if n != 80 {
		ts.Fatalf("%d users, want 80", n)
	}
}

func beginsLikeNative(ts *testscript.TestScript, f field.Of[string]) bool {
	text, err := f.Value()
	ts.Check(err)
	raw, err := base64.StdEncoding.DecodeString(text.(string))
	ts.Check(err)
	return nativefield.IsFormat(raw)
}

// sql STATEMENT changes app.sqlite3.
func execSQL(ts *testscript.TestScript, _ bool, args []string) {
	db := open(ts)
	defer db.Close()
	_, err := db.Exec(strings.Join(args, " "))
	ts.Check(err)
}

// exits CODE COMMAND… runs a command that must end with this code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "exit status ")
		var atoi error
		if code, atoi = strconv.Atoi(text); atoi != nil {
			ts.Fatalf("%v", err)
		}
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
	record(ts)
}

// mode FILE BITS checks the permissions of a file.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

// outputs are those of all commands that exits ran, by script.
var outputs sync.Map

func record(ts *testscript.TestScript) {
	all, _ := outputs.LoadOrStore(ts.Getenv("WORK"), new(strings.Builder))
	all.(*strings.Builder).WriteString(ts.ReadFile("stdout") + ts.ReadFile("stderr"))
}

// secrets fails if an output of the script holds a plaintext or bytes of a key
// file, in any of the usual encodings.
func noSecrets(ts *testscript.TestScript, _ bool, args []string) {
	v, ok := outputs.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("no output was recorded")
	}
	all := v.(*strings.Builder).String()
	forbidden := append([]string{secretName, secretPhone}, args...)
	files, err := filepath.Glob(filepath.Join(ts.Getenv("WORK"), "*.key"))
	ts.Check(err)
	for _, file := range files {
		for line := range strings.Lines(ts.ReadFile(file)) {
			if _, digits, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				forbidden = append(forbidden, digits)
			}
		}
	}
	for _, secret := range forbidden {
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(secret)} {
			if strings.Contains(all, form) {
				ts.Fatalf("an output holds a secret (%d bytes)", len(secret))
			}
		}
	}
}
