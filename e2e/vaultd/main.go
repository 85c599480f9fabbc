// Command vaultd is a real HashiCorp Vault for tests: core, HTTP API, tokens,
// policies, quotas, AppRole, transit and file audit, with its storage in memory.
//
// It listens on a free port of the loopback interface, prints one line
//
//	http://127.0.0.1:PORT ROOT-TOKEN
//
// and runs until its standard input ends, so that it never outlives the test
// that holds the other end of the pipe. By hand: sleep infinity | vaultd.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/audit"
	"github.com/hashicorp/vault/builtin/audit/file"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "vaultd:", err)
		os.Exit(1)
	}
}

func run() error {
	core, token, err := newCore()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- http.Serve(listener, handler(core)) }()
	fmt.Printf("http://%s %s\n", listener.Addr(), token)

	parent := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		parent <- err
	}()
	select {
	case err = <-served:
	case err = <-parent:
	}
	return err
}

// newCore returns an unsealed core and its root token.
func newCore() (core *vault.Core, token string, err error) {
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return nil, "", err
	}
	core, err = vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		Logger:             logger,
		DisableMlock:       true,
		LogicalBackends:    map[string]logical.Factory{"transit": transit.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory},
		AuditBackends:      map[string]audit.Factory{"file": file.Factory},
		BuiltinRegistry:    registry{},
	})
	if err != nil {
		return nil, "", err
	}
	init, err := core.Initialize(context.Background(), &vault.InitParams{
		BarrierConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
	})
	if err != nil {
		return nil, "", err
	}
	_, err = core.Unseal(init.SecretShares[0])
	return core, init.RootToken, err
}

func handler(core *vault.Core) http.Handler {
	return vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core: core,
		ListenerConfig: &configutil.Listener{
			Type:               "tcp",
			MaxRequestSize:     32 << 20,
			MaxRequestDuration: 90 * time.Second,
		},
	})
}
