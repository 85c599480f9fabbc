package rotatecli

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotatecli/internal/ui"
)

type uiCmd struct {
	Listen    string `default:"127.0.0.1:8399" placeholder:"HOST:PORT" help:"Where to serve the page. Other hosts than this machine need --token-file, and the token for every look."`
	TokenFile string `placeholder:"FILE" help:"Let who has the token in this file pause, resume and cancel runs and examine key services. The file is made if it is missing. Without it the page is read-only."`
	Estimates bool   `help:"Do not count large tables: show estimates. Then of no version it is said that it may be retired."`
}

func (uiCmd) Help() string {
	return `The page shows what "rotate status", "versions", "doctor", "branch list", "inventory" and
"rotate history" print, and keeps it up to date. It shows no value, key or context, and
no name of a record or branch. Everybody on this machine can read it. Examples:

  ui
  ui --token-file ~/.ops-token

To serve it from another machine open a tunnel (ssh -L 8399:127.0.0.1:8399), or mount
Program.Handler in a server that knows who may see it.`
}

func (c *uiCmd) Run(ctx context.Context, s *Session) error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return usage("--listen: %w", err)
	}
	local := ui.IsLoopback(host)
	if !local && c.TokenFile == "" {
		return usage("--listen: others than this machine would see the page without a token: add --token-file, or use a tunnel")
	}
	authorize := func(*http.Request) ui.Access { return ui.Read }
	if c.TokenFile != "" {
		token, err := readToken(c.TokenFile)
		if err != nil {
			return err
		}
		authorize = token.access(local)
	}
	log := slog.New(slog.NewTextHandler(s.Stderr, nil))
	handler := ui.Handler(newDashboard(ctx, s, log, c.Estimates).source(c.TokenFile != ""), authorize)
	if local {
		handler = ui.ForLoopback(handler)
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	s.printf("http://%s/\n", listener.Addr())
	return serve(ctx, listener, handler)
}

// serve ends without an error when ctx does.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// token is the hash of one, so that no comparison tells its length.
type token [sha256.Size]byte

const leastToken = 16 // characters

// readToken reads the token in a file, or makes one.
func readToken(path string) (token, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeToken(path)
	}
	if err != nil {
		return token{}, err
	}
	word := strings.TrimSpace(string(text))
	if len(word) < leastToken {
		return token{}, usage("the token in %s has less than %d characters", path, leastToken)
	}
	return sha256.Sum256([]byte(word)), nil
}

func makeToken(path string) ([]byte, error) {
	text := []byte(rand.Text() + "\n")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(text)
	return text, errors.Join(err, f.Close())
}

// access gives control for the token, and without it lets only this machine read.
func (t token) access(local bool) func(*http.Request) ui.Access {
	return func(r *http.Request) ui.Access {
		word, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		given := sha256.Sum256([]byte(word))
		switch {
		case subtle.ConstantTimeCompare(given[:], t[:]) == 1:
			return ui.Control
		case local:
			return ui.Read
		}
		return ui.None
	}
}

// Access is what a request to the page of [Program.Handler] may do.
type Access uint8

const (
	NoAccess      Access = iota // nothing: 401
	ReadAccess                  // see everything
	ControlAccess               // also pause, resume and cancel runs, and examine key services
)

// Handler returns the page of the command "ui" for a server of your own, under any path
// that ends with a slash: use [http.StripPrefix]. authorize decides what each request for
// data may do, for example by the session of your users; the page itself, without data,
// is for everybody. authorize must be safe for concurrent use. Requests that change
// something are also refused unless they come from the page: a proxy in front of the
// server must keep the header Host.
//
// The page reads the database only while somebody looks, until ctx ends. log gets errors
// in full, which the page does not show; nil means none. Handler does not use the
// streams and the grammar of the Program. It connects when the page is first asked for
// data.
func (p Program) Handler(ctx context.Context, log *slog.Logger, authorize func(*http.Request) Access) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := newDashboard(ctx, p.session(), log, false)
	return ui.Handler(d.source(false), func(r *http.Request) ui.Access { return ui.Access(authorize(r)) })
}
