package dbserver

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

func startMariaDB() (string, error) { return startMariaDBWith(rand.Text(), "--skip-log-bin") }

// startMariaDBReplica starts a server with a log, and a second one that follows it from
// its first statement on. Both have one password, because the log sets it.
func startMariaDBReplica() (primary, replica string, err error) {
	password := rand.Text()
	primary, err = startMariaDBWith(password, "--log-bin=binlog", "--binlog-format=ROW", "--server-id=1")
	if err != nil {
		return "", "", err
	}
	if replica, err = startMariaDBWith(password, "--skip-log-bin", "--server-id=2", "--relay-log=relay"); err != nil {
		return "", "", err
	}
	db, err := sql.Open("mysql", replica)
	if err != nil {
		return "", "", err
	}
	defer db.Close()
	_, port, _ := strings.Cut(primary, "127.0.0.1:")
	port, _, _ = strings.Cut(port, ")")
	_, err = db.Exec(fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %s, MASTER_USER = 'root', MASTER_PASSWORD = '%s', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1", port, password))
	if err == nil {
		_, err = db.Exec("START SLAVE")
	}
	return primary, replica, err
}

func startMariaDBWith(password string, options ...string) (string, error) {
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
			return append([]string{program}, append(append(arguments[:len(arguments):len(arguments)],
				"--bind-address=127.0.0.1", "--port="+strconv.Itoa(port),
				// Relative to the data folder, because a socket's path may have only 107
				// bytes.
				"--socket=socket", "--pid-file=pid", "--init-file="+p.path("password.sql"),
				"--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0",
				"--innodb-buffer-pool-size=64M", "--innodb-log-file-size=8M"), options...)...)
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
