package dbserver

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func startPostgres() (string, error) {
	bin, err := postgresFolder()
	if err != nil {
		return "", err
	}
	p, err := newProcess("postgres")
	if err != nil {
		return "", err
	}
	password := rand.Text()
	if err := p.write("password", password); err != nil {
		return "", err
	}
	if err := p.run(filepath.Join(bin, "initdb"), nil,
		"--pgdata=data", "--username=postgres", "--auth=scram-sha-256", "--pwfile=password",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"); err != nil {
		return "", err
	}
	// Not on the command line, so that a benchmark can enable them again.
	if err := p.write(filepath.Join("data", "postgresql.auto.conf"), "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n"); err != nil {
		return "", err
	}
	return p.servePostgres(bin, password)
}

// startReplica starts a server, and a second one that replicates it and has a slot of
// it. stop ends the second one.
func startReplica() (primary, replica string, stop func() error, err error) {
	if primary, err = startPostgres(); err != nil {
		return "", "", nil, err
	}
	u, err := url.Parse(primary)
	if err != nil {
		return "", "", nil, err
	}
	bin, err := postgresFolder()
	if err != nil {
		return "", "", nil, err
	}
	p, err := newProcess("replica")
	if err != nil {
		return "", "", nil, err
	}
	if err := p.run(filepath.Join(bin, "pg_basebackup"), nil,
		"--pgdata=data", "--dbname="+primary, "--write-recovery-conf", "--checkpoint=fast", "--create-slot", "--slot=replica", "--no-sync"); err != nil {
		return "", "", nil, err
	}
	password, _ := u.User.Password()
	replica, err = p.servePostgres(bin, password)
	stop = func() error { return signal(p.path("data"), syscall.SIGINT) }
	return primary, replica, stop, err
}

// signal sends a signal to the server of a data folder.
func signal(folder string, s syscall.Signal) error {
	file, err := os.ReadFile(filepath.Join(folder, "postmaster.pid"))
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(file), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, s)
}

// crash ends the server of a data folder without giving it a chance to write anything.
func crash(folder string) error { return signal(folder, syscall.SIGKILL) }

func (p *process) servePostgres(bin, password string) (dsn string, err error) {
	return p.serve(server{
		driver: "pgx",
		dsn: func(port int) string {
			return fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres?sslmode=disable", password, port)
		},
		question: "SHOW data_directory",
		// Fast shutdown: SIGTERM would wait for connections to be closed.
		stop: syscall.SIGINT,
		command: func(port int) []string {
			return []string{
				filepath.Join(bin, "postgres"), "-D", "data", "-p", strconv.Itoa(port),
				"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
			}
		},
	})
}

// postgresFolder finds the server's programs: on PATH if there are any, otherwise the
// newest of Debian's, which are never on PATH.
func postgresFolder() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		// initdb looks for its siblings in its own folder, so follow a link.
		path, err = filepath.EvalSymlinks(path)
		return filepath.Dir(path), err
	}
	folders, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	folders = slices.DeleteFunc(folders, func(folder string) bool {
		// The client packages create such a folder too.
		_, err := os.Stat(filepath.Join(folder, "postgres"))
		return err != nil
	})
	if len(folders) == 0 {
		return "", errNotInstalled
	}
	return slices.MaxFunc(folders, func(a, b string) int { return debianVersion(a) - debianVersion(b) }), nil
}

// debianVersion returns 15 for /usr/lib/postgresql/15/bin, or 0 without a number.
func debianVersion(folder string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
	return version
}
