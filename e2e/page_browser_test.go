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

// pictures is where the pictures of the documentation go:
//
//	go test -run TestPageInChromium . -args -pictures ../docs/pictures
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

// types runs a command; its exit code follows.
func (o *operator) types(t *testing.T, command string) <-chan int {
	t.Helper()
	program, code := o.program(t, o.dsn, t.Output()), make(chan int, 1)
	go func() { code <- program.Run(t.Context(), strings.Fields(command)) }()
	return code
}

// page starts the command ui and returns the address that it prints.
func (o *operator) page(t *testing.T, dsn string) string {
	t.Helper()
	read, write := io.Pipe()
	program, ctx := o.program(t, dsn, write), context.WithoutCancel(t.Context())
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan int, 1)
	go func() { ended <- program.Run(ctx, []string{"ui", "--listen", "127.0.0.1:0", "--token-file", o.token}) }()
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
	o.exec(t, "CREATE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(0.15); RETURN NULL; END' LANGUAGE plpgsql")
	o.exec(t, "CREATE TRIGGER slow AFTER UPDATE ON notes FOR EACH STATEMENT EXECUTE FUNCTION slow()")
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
	p.tabTo("Token")
	token, err := os.ReadFile(o.token)
	must(t, err)
	p.call("Input.insertText", map[string]any{"text": string(bytes.TrimSpace(token))}, nil)
	p.press("Enter")
	p.says("The token is right")

	// A run that is cancelled, at the second thought.
	<-o.types(t, "rotate run --to 2 --limit 100 --workers 1 --batch 100")
	p.says("rewrap to v2: active")
	p.says("Nobody is at work: rotate run goes on.")
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
	if *pictures != "" {
		time.Sleep(8 * time.Second) // for a chart with something in it
	}
	p.picture("page-light")
	p.accessible("light")
	p.media("prefers-color-scheme", "dark")
	p.picture("page-dark")
	p.accessible("dark")
	p.media("prefers-color-scheme", "light")
	p.tabTo("Pause the run of notes")
	p.press(" ")
	if code := <-running; code != rotatecli.ExitPaused {
		t.Fatalf("the run ended with %d after it was paused on the page, want %d", code, rotatecli.ExitPaused)
	}
	p.says("rewrap to v2: paused")
	p.says("Nothing is written until it is resumed.")
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
	p.value(`document.getElementById("runs").scrollIntoView()`, nil)
	p.picture("page-failures")
	for _, secret := range []string{secretOfService, "note 17", strings.TrimSpace(string(token)), "v1:damaged"} {
		if strings.Contains(p.text(), secret) {
			t.Errorf("the page shows %q", secret)
		}
	}
	if len(p.complaints) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(p.complaints, "\n"))
	}
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

// With a million rows the page is there at once, shows estimates before it has counted,
// and follows the run. It takes minutes: KMSENCRYPTED_MILLION=1.
func TestMillionRowsInChromiumPostgres(t *testing.T) {
	if os.Getenv("KMSENCRYPTED_MILLION") == "" {
		t.Skip("KMSENCRYPTED_MILLION is not set")
	}
	browser := chromium(t)
	o := newOperator(t, 1_000_000)
	address := o.page(t, o.dsn)
	began := time.Now()
	p := browser.open(t, address, 1100, 900)
	var first float64
	p.value(`performance.getEntriesByType("navigation")[0].responseStart`, &first)
	p.says("about 1,000,000")
	estimated := time.Since(began)
	p.until("it has counted", `document.querySelector("#versions").innerText.includes("1,000,000")`)
	exact := time.Since(began)
	running := o.types(t, "rotate run --to 2")
	p.says("rewrap to v2: active")
	var seen []string
	p.value(`new Promise((resolve) => { const seen = []; const id = setInterval(() => {
		const facts = document.querySelector("#runs dl").innerText.replace(/\s+/g, " ")
		if (/Done (\d+)/.exec(facts)?.[1] % 10 === 0 && seen.at(-1)?.slice(0, 30) !== facts.slice(0, 30)) seen.push(facts)
		if (!document.querySelector("#runs .state").textContent.includes("active")) { clearInterval(id); resolve(seen) } }, 500) })`, &seen)
	p.picture("page-million")
	counted(t, "first byte after %.1f ms, estimates after %s, counted after %s", first, estimated.Round(time.Millisecond), exact.Round(time.Millisecond))
	for _, facts := range seen {
		t.Log(facts)
	}
	if code := <-running; code != rotatecli.ExitDone {
		t.Errorf("the run ended with %d", code)
	}
	p.says("rewrap to v2: done")
}
