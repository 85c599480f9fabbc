package dbserver

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// process runs the programs of one server in a temporary folder of its own.
type process struct {
	dir     string
	account *syscall.Credential // nil means the account of the test
	// alive is the writing end of a pipe, held by the test binary and by the
	// server. When both are gone, the reader removes the folder.
	alive *os.File
}

// newProcess creates the folder and starts the program that will remove it.
func newProcess(name string) (*process, error) {
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	// Not the TempDir of a test: the folder outlives the test, and the server's
	// account could not reach that one.
	dir, err := os.MkdirTemp("", "kmsencrypted-"+name+"-")
	if err != nil {
		return nil, err
	}
	p := &process{dir: dir, account: account}
	if err := errors.Join(p.chown(dir), p.removeAtEnd()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, nil
}

// removeAtEnd starts a shell that waits for the end of the pipe, because nothing
// in the test binary could run after a crash.
func (p *process) removeAtEnd() error {
	ended, alive, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ended.Close()
	p.alive = alive
	remover := exec.Command("/bin/sh", "-c", `cat >/dev/null; cd / && rm -rf "$1"`, "remove-at-end", p.dir)
	remover.Stdin = ended
	// A process group of its own, because ^C in the terminal would end it too soon.
	remover.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return remover.Start()
}

func (p *process) path(name string) string { return filepath.Join(p.dir, name) }

func (p *process) chown(path string) error {
	if p.account == nil {
		return nil
	}
	return os.Chown(path, int(p.account.Uid), int(p.account.Gid))
}

func (p *process) makeFolder(name string) error {
	return errors.Join(os.Mkdir(p.path(name), 0o700), p.chown(p.path(name)))
}

func (p *process) write(name, text string) error {
	return errors.Join(os.WriteFile(p.path(name), []byte(text), 0o600), p.chown(p.path(name)))
}

// command returns a command that runs in the folder, under the server's account,
// without the environment of the test.
func (p *process) command(program string, arguments ...string) *exec.Cmd {
	cmd := exec.Command(program, arguments...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.account, Setpgid: true}
	return cmd
}

// run runs a program that prepares the folder.
func (p *process) run(program string, input io.Reader, arguments ...string) error {
	cmd := p.command(program, arguments...)
	cmd.Stdin = input
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(program), err, lastLines(output))
	}
	return nil
}

// server describes how to serve a prepared folder.
type server struct {
	driver  string
	command func(port int) []string
	dsn     func(port int) string
	// question is a query that only this server answers with answer. If answer is
	// empty it asks for the data folder.
	question, answer string
	stop             syscall.Signal
}

var errEnded = errors.New("server exited at once")

// serve starts the server and returns its DSN once it answers. It makes a few
// attempts, because another process may take a free port before the server does.
func (p *process) serve(s server) (dsn string, err error) {
	for range 3 {
		if dsn, err = p.serveOnce(s); !errors.Is(err, errEnded) {
			break
		}
	}
	return dsn, err
}

func (p *process) serveOnce(s server) (string, error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	log, err := os.Create(p.path("log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	command := s.command(port)
	cmd := p.command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{p.alive}
	// The kernel sends it when the starting thread ends, even in a crash.
	cmd.SysProcAttr.Pdeathsig = s.stop
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// This is the starting thread: keep it as long as the server runs.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return "", err
	}
	if err := p.answers(s, s.dsn(port), ended); err != nil {
		cmd.Process.Kill()
		<-ended
		output, _ := os.ReadFile(log.Name())
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(command[0]), err, lastLines(output))
	}
	return s.dsn(port), nil
}

// answers waits until the server at dsn gives the answer that only ours gives, so
// that another server on the same port is not mistaken for ours.
func (p *process) answers(s server, dsn string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := sql.Open(s.driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	want := s.answer
	if want == "" {
		if want, err = filepath.EvalSymlinks(p.path("data")); err != nil {
			return err
		}
	}
	for {
		var answer string
		err := db.QueryRowContext(ctx, s.question).Scan(&answer)
		if err == nil && answer == want {
			return nil
		}
		select {
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("server does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

func lastLines(output []byte) []byte {
	lines := bytes.Split(bytes.TrimSpace(output), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-5):], []byte("\n"))
}
