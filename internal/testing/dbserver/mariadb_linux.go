package dbserver

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

func startMariaDB() (string, error) {
	program, err := mariadbProgram()
	if err != nil {
		return "", err
	}
	tables, err := systemTables(program)
	if err != nil {
		return "", err
	}
	p, err := newProcess("mariadb")
	if err != nil {
		return "", err
	}
	password := rand.Text()
	// Other accounts of root keep no password: they are only for the socket, which
	// is in the server's own folder.
	setPassword := fmt.Sprintf("SET PASSWORD FOR 'root'@'127.0.0.1' = PASSWORD('%s');\n", password)
	if err := p.write("password.sql", setPassword); err != nil {
		return "", err
	}
	if err := p.makeFolder("data"); err != nil {
		return "", err
	}
	arguments := []string{"--no-defaults", "--datadir=" + p.path("data"), "--tmpdir=" + p.dir}
	// mariadb-install-db would do this, but needs a program of the client package.
	if err := p.run(program, bytes.NewReader(tables), append(arguments, "--bootstrap")...); err != nil {
		return "", err
	}
	return p.serve(server{
		driver: "mysql",
		dsn: func(port int) string {
			return fmt.Sprintf("root:%s@tcp(127.0.0.1:%d)/?parseTime=true", password, port)
		},
		question: "SELECT TRIM(TRAILING '/' FROM @@datadir)",
		stop:     syscall.SIGTERM,
		command: func(port int) []string {
			return append([]string{program}, append(arguments,
				"--bind-address=127.0.0.1", "--port="+strconv.Itoa(port),
				// Relative to the data folder, because a socket's path may have only 107
				// bytes.
				"--socket=socket", "--pid-file=pid", "--init-file="+p.path("password.sql"),
				"--skip-log-bin", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0",
				"--innodb-buffer-pool-size=64M", "--innodb-log-file-size=8M")...)
		},
	})
}

// mariadbProgram finds the server on PATH or in the folder of administrators'
// programs, which Debian omits from the PATH of ordinary users.
func mariadbProgram() (string, error) {
	for _, name := range []string{"mariadbd", "/usr/sbin/mariadbd"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.EvalSymlinks(path)
		}
	}
	return "", errNotInstalled
}

// systemTables returns the script that creates the tables of the server itself.
func systemTables(program string) ([]byte, error) {
	share := filepath.Join(filepath.Dir(program), "..", "share")
	// In bootstrap mode two statements on one line are a syntax error.
	script := []byte("create database mysql;\nuse mysql;\n")
	for _, name := range []string{"mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql"} {
		part, err := os.ReadFile(filepath.Join(share, "mysql", name))
		if errors.Is(err, os.ErrNotExist) {
			part, err = os.ReadFile(filepath.Join(share, "mariadb", name))
		}
		if err != nil {
			return nil, err
		}
		script = append(script, part...)
	}
	return script, nil
}
