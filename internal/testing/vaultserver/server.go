// Package vaultserver gives tests a real Vault or OpenBao. Only tests import it.
//
// KMSENCRYPTED_VAULT_ADDR and KMSENCRYPTED_VAULT_TOKEN name a running server
// whose token may do everything. Otherwise the program in e2e/vaultd is started.
// Building it takes two minutes the first time, so that happens only on request:
// with KMSENCRYPTED_VAULT=build, or with CI=true, when a missing server fails the
// test instead of skipping it.
package vaultserver

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// Server is a running Vault or OpenBao.
type Server struct {
	Addr  string // http://127.0.0.1:PORT
	Token string // may do everything
}

// Start returns a server that stops with the test.
func Start(t testing.TB) Server {
	t.Helper()
	if addr := os.Getenv("KMSENCRYPTED_VAULT_ADDR"); addr != "" {
		return Server{Addr: addr, Token: os.Getenv("KMSENCRYPTED_VAULT_TOKEN")}
	}
	program, err := program()
	if err != nil {
		giveUp(t, err)
	}
	server, err := start(t, program)
	if err != nil {
		giveUp(t, err)
	}
	return server
}

func inCI() bool { return os.Getenv("CI") == "true" }

func giveUp(t testing.TB, err error) {
	t.Helper()
	if inCI() {
		t.Fatalf("no Vault server: %v", err)
	}
	reason, _, _ := strings.Cut(err.Error(), "\n")
	t.Skipf("no Vault server: %s", reason)
}

// Client returns a client with the given token that makes one attempt per call.
// It ignores the VAULT_… environment.
func (s Server) Client(t testing.TB, token string) *api.Client {
	t.Helper()
	client, err := api.NewClient(&api.Config{Address: s.Addr, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	client.ClearNamespace()
	client.SetToken(token)
	return client
}

const startTimeout = 30 * time.Second

// start runs the program until the end of the test. The program stops when its
// standard input ends, so it does not outlive a test binary that crashes.
func start(t testing.TB, program string) (Server, error) {
	cmd := exec.Command(program)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return Server{}, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return Server{}, err
	}
	if err := cmd.Start(); err != nil {
		return Server{}, err
	}
	kill := time.AfterFunc(startTimeout, func() { cmd.Process.Kill() })
	t.Cleanup(func() {
		kill.Reset(startTimeout)
		stdin.Close()
		cmd.Wait()
		kill.Stop()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		cmd.Wait()
		return Server{}, fmt.Errorf("%s said nothing: %w\n%s", program, err, &stderr)
	}
	kill.Stop()
	go io.Copy(io.Discard, stdout)
	addr, token, _ := strings.Cut(strings.TrimSpace(line), " ")
	return Server{Addr: addr, Token: token}, nil
}
