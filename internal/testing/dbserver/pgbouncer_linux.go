package dbserver

import (
	"fmt"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

func startPgBouncer(postgres *url.URL) (address string, err error) {
	program, err := pgbouncerProgram()
	if err != nil {
		return "", err
	}
	p, err := newProcess("pgbouncer")
	if err != nil {
		return "", err
	}
	host, port := postgres.Hostname(), postgres.Port()
	if port == "" {
		port = "5432"
	}
	password, _ := postgres.User.Password()
	quoted := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
	if err := p.write("users", quoted(postgres.User.Username())+" "+quoted(password)+"\n"); err != nil {
		return "", err
	}
	dsn, err := p.serve(server{
		driver: "pgx",
		dsn: func(port int) string {
			through := *postgres
			through.Host = "127.0.0.1:" + strconv.Itoa(port)
			through.RawQuery = "sslmode=disable&default_query_exec_mode=simple_protocol"
			return through.String()
		},
		// The password is proof enough, for it is the server's own.
		question: "SELECT 'PostgreSQL'",
		answer:   "PostgreSQL",
		stop:     syscall.SIGTERM, // SIGINT would wait for transactions
		command: func(listen int) []string {
			config := fmt.Sprintf(`[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = users
pool_mode = transaction
default_pool_size = 20
max_client_conn = 200
`, host, port, listen)
			if err := p.write("pgbouncer.ini", config); err != nil {
				return []string{"/bin/false"} // it then ends at once
			}
			return []string{program, "pgbouncer.ini"}
		},
	})
	if err != nil {
		return "", err
	}
	through, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	return through.Host, nil
}

// pgbouncerProgram finds the pooler on PATH or where Debian has it.
func pgbouncerProgram() (string, error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNotInstalled
}
