package e2e

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// pictures is where the pictures of docs/ui.md go:
//
//	KMSENCRYPTED_MILLION=1 go test -timeout 2h -run TestLargeRun . -args -pictures $PWD/../docs/pictures
var pictures = flag.String("pictures", "", "folder for pictures of the page of the command ui")

// operator is who rotates the notes of a table on the command line, and looks at the page.
type operator struct {
	*table
	service *kmstest.Service
	token   string // file
}

func newOperator(t *testing.T, rows int64) *operator {
	t.Helper()
	return &operator{newTable(t, rows), kmstest.NewService(testkey.New()), filepath.Join(t.TempDir(), "token")}
}

// program is the command line, on a database that is perhaps not always there.
func (o *operator) program(t *testing.T, dsn string, stdout io.Writer) rotatecli.Program {
	t.Helper()
	pool, err := connect(t.Context(), dsn)
	must(t, err)
	t.Cleanup(pool.Close)
	db := stdlib.OpenDBFromPool(pool)
	t.Cleanup(func() { db.Close() })
	return rotatecli.Program{
		Name: "ops", Stdout: stdout, Stderr: t.Output(),
		Open: func(context.Context) (*rotatecli.Database, error) {
			box, err := boxOf(2, o.service.Provider())
			if err != nil {
				return nil, err
			}
			notes, err := notesOf(box)
			return &rotatecli.Database{DB: db, Dialect: field.Postgres, Models: []field.AnyModel{notes}}, err
		},
	}
}

// slowWrites makes each batch take a while, so that there is time to look.
func (o *operator) slowWrites(t *testing.T) {
	t.Helper()
	o.exec(t, "CREATE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(0.15); RETURN NULL; END' LANGUAGE plpgsql")
	o.exec(t, "CREATE TRIGGER slow AFTER UPDATE ON notes FOR EACH STATEMENT EXECUTE FUNCTION slow()")
}

// types runs a command; its exit code follows.
func (o *operator) types(t *testing.T, command string) <-chan int {
	t.Helper()
	program, code := o.program(t, o.dsn, t.Output()), make(chan int, 1)
	go func() { code <- program.Run(t.Context(), strings.Fields(command)) }()
	return code
}

// page starts the command ui and returns the address that it prints.
func (o *operator) page(t *testing.T, dsn string, flags ...string) string {
	t.Helper()
	read, write := io.Pipe()
	program, ctx := o.program(t, dsn, write), context.WithoutCancel(t.Context())
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan int, 1)
	go func() {
		ended <- program.Run(ctx, append([]string{"ui", "--listen", "127.0.0.1:0", "--token-file", o.token}, flags...))
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != rotatecli.ExitDone {
			t.Errorf("ui ended with %d", code)
		}
	})
	line, err := bufio.NewReader(read).ReadString('\n')
	must(t, err)
	return strings.TrimSpace(line)
}

// line is a way to a database that can be cut.
type line struct {
	mu   sync.Mutex
	cut  bool
	open []net.Conn
}

// lineTo returns a line, and the DSN of the database at its end.
func lineTo(t *testing.T, dsn string) (*line, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	must(t, err)
	there := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	l := new(line)
	t.Cleanup(func() {
		listener.Close()
		l.set(true)
	})
	go func() {
		for {
			here, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", there)
			if err != nil || !l.keep(here, far) {
				here.Close()
				continue
			}
			go io.Copy(far, here)
			go io.Copy(here, far)
		}
	}()
	u.Host = listener.Addr().String()
	return l, u.String()
}

func (l *line) keep(ends ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, ends...)
	return !l.cut
}

func (l *line) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	for _, c := range l.open {
		c.Close()
	}
	l.open = nil
}

// An operator follows a rotation on the page, pauses and resumes it, sees why a record
// fails, and sees the database go and come back, with nothing but the keyboard.
func TestPageInChromiumPostgres(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	o := newOperator(t, 8000)
	o.slowWrites(t)
	o.exec(t, "UPDATE notes SET encrypted_kms_key = 'v1:damaged' WHERE id = 17")
	o.service.Set(kmstest.Slow(10*time.Millisecond, 1))
	line, dsn := lineTo(t, o.dsn)
	p := browser.open(t, o.page(t, dsn), 1100, 900)

	p.says("no run yet")
	p.says("This page is read-only without the token.")
	p.tabTo("Skip to the runs")
	p.press("Enter")
	p.until("the skip link leads to the runs", `document.activeElement.id === "runs"`)
	p.tabTo("Token")
	p.call("Input.insertText", map[string]any{"text": "a wrong token of some length"}, nil)
	p.press("Enter")
	p.says("The token is wrong.")
	token := p.giveToken(o)

	// A run that is cancelled, at the second thought.
	<-o.types(t, "rotate run --to 2 --limit 100 --workers 1 --batch 100")
	p.says("rewrap to v2: active")
	p.says("Nobody is at work. ops rotate run goes on")
	p.tabTo("Cancel the run of notes")
	p.press("Enter")
	const asks = `document.querySelector("dialog").open && document.activeElement.textContent === "Keep the run"`
	p.until("it asks", asks)
	p.press("Escape")
	p.until("the focus is back", `!document.querySelector("dialog").open && document.activeElement.textContent === "Cancel"`)
	p.press("Enter")
	p.until("it asks again", asks)
	p.press("Tab")
	p.until("the other button has the focus", `document.activeElement.value === "yes"`)
	p.press("Enter")
	p.says("rewrap to v2: canceled")

	// One that is paused and goes on.
	running := o.types(t, "rotate run --to 2 --workers 1 --batch 50")
	p.says("rewrap to v2: active")
	p.until("the chart has three points", `[...document.querySelectorAll("polygon.write")].some((g) => g.getAttribute("points").split(" ").length >= 6)`)
	p.says("rows/s")
	p.accessible("light")
	p.media("prefers-color-scheme", "dark")
	p.accessible("dark")
	p.media("prefers-color-scheme", "light")
	p.tabTo("Pause the run of notes")
	p.press(" ")
	if code := <-running; code != rotatecli.ExitPaused {
		t.Fatalf("the run ended with %d after it was paused on the page, want %d", code, rotatecli.ExitPaused)
	}
	p.says("rewrap to v2: paused")
	p.says("Nothing is written until it is resumed, here or by ops rotate resume.")
	p.tabTo("Resume the run of notes")
	p.press("Enter")
	p.says("rewrap to v2: active")

	// The database goes while the page is open, and comes back.
	line.set(true)
	p.says("The database cannot be reached")
	p.says("What is shown is of")
	line.set(false)
	p.until("it knows that the database is back", `!document.querySelector("#runs > .problem")`)

	if code := <-o.types(t, "rotate run --to 2 --workers 2 --batch 1000"); code != rotatecli.ExitFailures {
		t.Errorf("the run ended with %d, want %d for the damaged record", code, rotatecli.ExitFailures)
	}
	p.says("rewrap to v2: done")
	p.says("malformed")
	p.says("restore the row from a backup")

	// The key services.
	p.tabTo("Examine now")
	p.press("Enter")
	p.says("may encrypt")
	p.says(" ms")
	p.says("The key services were examined: not all are in order.") // the test key is insecure
	o.service.Set(kmstest.Fail(fmt.Errorf("%w: by %s", kmsencrypted.ErrDenied, secretOfService), 1))
	p.tabTo("Examine now")
	p.press("Enter")
	p.says("may not encrypt: denied")
	p.says("ops policy prints the least rights")
	for _, secret := range []string{secretOfService, "note 17", token, "v1:damaged"} {
		if strings.Contains(p.text(), secret) {
			t.Errorf("the page shows %q", secret)
		}
	}
	if len(p.complaints) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(p.complaints, "\n"))
	}
}

// giveToken types the token of the operator into the page.
func (p *tab) giveToken(o *operator) (token string) {
	p.Helper()
	text, err := os.ReadFile(o.token)
	must(p, err)
	token = string(bytes.TrimSpace(text))
	p.tabTo("Token")
	p.call("Input.insertText", map[string]any{"text": token}, nil)
	p.press("Enter")
	p.says("The token is right")
	return token
}

const secretOfService = "what a key service quoted"

// accessible checks what a machine can check of a page that everybody can use.
func (p *tab) accessible(scheme string) {
	p.Helper()
	nodes := p.nodes()
	for role, least := range map[string]int{
		"banner": 1, "navigation": 1, "main": 1, "contentinfo": 1, "status": 1, "region": 6, "article": 1, "heading": 8,
		"progressbar": 1, "image": 1, "table": 3, "columnheader": 10, "rowheader": 5, "link": 7,
	} {
		if len(nodes[role]) < least {
			p.Errorf("%s: %d elements are a %s, want %d", scheme, len(nodes[role]), role, least)
		}
	}
	for _, role := range []string{"region", "article", "heading", "progressbar", "image", "table", "button", "link", "navigation", "group"} {
		if slices.Contains(nodes[role], "") {
			p.Errorf("%s: a %s has no name", scheme, role)
		}
	}
	var faint []string
	p.value(faintTexts, &faint)
	for _, text := range faint {
		p.Errorf("%s: too little contrast: %s", scheme, text)
	}
}

// faintTexts lists the texts whose contrast with their background is below 4.5, which
// WCAG 2.2 asks for.
const faintTexts = `(() => {
	const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true})
	const rgba = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data] }
	const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * x + 0.7152 * y + 0.0722 * z }
	const ground = (e) => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c } return [255, 255, 255, 255] }
	const faint = new Set()
	for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walk.nextNode();) {
		const e = walk.currentNode.parentElement
		if (!walk.currentNode.data.trim() || !e.checkVisibility() || e.closest("script, noscript")) continue
		const [a, b] = [light(rgba(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x)
		const contrast = (a + 0.05) / (b + 0.05)
		if (contrast < 4.5) faint.add(walk.currentNode.data.slice(0, 40) + " " + contrast.toFixed(2))
	}
	return [...faint]
})()`

// A large run, from the first look to its end, is paused and resumed on the page. With
// KMSENCRYPTED_MILLION=1 there are a million rows, which takes minutes and shows estimates.
func TestLargeRunInChromiumPostgres(t *testing.T) {
	browser := chromium(t)
	rows, command := int64(6000), "rotate run --to 2 --workers 1 --batch 50"
	million := os.Getenv("KMSENCRYPTED_MILLION") != ""
	if million {
		rows, command = 1_000_000, "rotate run --to 2"
	}
	o := newOperator(t, rows)
	o.exec(t, "UPDATE notes SET encrypted_kms_key = 'v1:damaged' WHERE id IN (17, 170, 1700)")
	o.service.Set(kmstest.Slow(2*time.Millisecond, 1))
	if !million {
		o.slowWrites(t)
	}
	p := browser.open(t, o.page(t, o.dsn, "--estimates"), 1100, 1050)
	if million {
		p.patience = 30 * time.Minute
		p.says("about 1,000,000")
	}
	began := time.Now()
	p.load(o.page(t, o.dsn))
	first := p.firstByte()
	p.until("it has counted", fmt.Sprintf(`document.querySelector("#versions").innerText.includes("\t" + (%d).toLocaleString("en") + "\t")`, rows))
	counted(t, "first byte after %.1f ms, counted after %s", first, time.Since(began).Round(time.Millisecond))
	p.giveToken(o)

	running := o.types(t, command)
	p.progresses(30)
	p.tabTo("Pause the run of notes")
	p.press("Enter")
	if code := <-running; code != rotatecli.ExitPaused {
		t.Fatalf("the run ended with %d after it was paused on the page, want %d", code, rotatecli.ExitPaused)
	}
	p.says("rewrap to v2: paused")
	p.until("the focus is on the button that took its place", `document.activeElement.textContent === "Resume"`)
	p.press("Enter")
	p.says("rewrap to v2: active")
	running = o.types(t, command)
	p.progresses(60)
	p.picture("page-light")
	p.media("prefers-color-scheme", "dark")
	p.picture("page-dark")
	p.media("prefers-color-scheme", "light")
	if code := <-running; code != rotatecli.ExitFailures {
		t.Errorf("the run ended with %d, want %d for the damaged records", code, rotatecli.ExitFailures)
	}
	p.says("rewrap to v2: done")
	p.says("To go\n3 keys to v2") // counted again at the end
	p.picture("page-done")
	p.until("the failures are explained", `/malformed\t3\tDamaged/.test(document.querySelector("#runs").innerText)`)
}

// progresses waits until so much of the run of the only table is done, and logs what
// the page says at each tenth.
func (p *tab) progresses(percent int) {
	p.Helper()
	for tenth := 0; tenth <= percent; tenth += 10 {
		p.until(fmt.Sprint(tenth, " % are done"), fmt.Sprintf(`document.querySelector("#runs progress").position >= %g`, float64(tenth)/100))
		var facts string
		p.value(`document.querySelector("#runs dl").innerText.replace(/\s+/g, " ")`, &facts)
		p.Log(facts)
	}
}
