package dbserver

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func startMySQL() (string, error) {
	program, err := mysqlProgram()
	if err != nil {
		return "", err
	}
	p, err := newProcess("mysql")
	if err != nil {
		return "", err
	}
	password := rand.Text()
	// root@localhost keeps no password: it is only for the socket, which is in the
	// server's own folder.
	createRoot := fmt.Sprintf("CREATE USER 'root'@'127.0.0.1' IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n", password)
	if err := p.write("root.sql", createRoot); err != nil {
		return "", err
	}
	if err := p.makeFolder("data"); err != nil {
		return "", err
	}
	arguments := []string{"--no-defaults", "--datadir=" + p.path("data"), "--tmpdir=" + p.dir, "--secure-file-priv=NULL"}
	if err := p.run(program, nil, append(arguments, "--initialize-insecure")...); err != nil {
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
				"--bind-address=127.0.0.1", "--port="+strconv.Itoa(port), "--mysqlx=OFF",
				// Relative to the data folder, because a socket's path may have only 107
				// bytes.
				"--socket=socket", "--pid-file=pid", "--init-file="+p.path("root.sql"),
				"--skip-log-bin", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0",
				"--innodb-buffer-pool-size=64M")...)
		},
	})
}

// mysqlProgram returns the server in KMSENCRYPTED_MYSQLD, or else the one on
// PATH, which may be MariaDB's under the same name.
func mysqlProgram() (string, error) {
	if named := os.Getenv(mysqldVariable); named != "" {
		return filepath.EvalSymlinks(named)
	}
	for _, name := range []string{"mysqld", "/usr/sbin/mysqld"} {
		path, err := exec.LookPath(name)
		if err == nil && isMySQL(path) {
			return filepath.EvalSymlinks(path)
		}
	}
	return "", errNotInstalled
}

func isMySQL(program string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	output, err := exec.CommandContext(ctx, program, "--no-defaults", "--version").Output()
	return err == nil && !strings.Contains(string(output), "MariaDB")
}
