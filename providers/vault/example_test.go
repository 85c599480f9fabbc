package vault_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
)

// Address and token come from VAULT_ADDR and VAULT_TOKEN. Open fails if the key
// is missing or was made without derived=true.
func ExampleOpen() {
	provider, err := vault.Open(context.Background(), "vault/customers", vault.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	box, err := kmsencrypted.NewBox(provider)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("writing version", box.Current())
}

// login returns a secret that holds a token.
type login func(ctx context.Context) (*api.Secret, error)

// byAppRole logs in with the ids of an AppRole; mount is "approle" as a rule.
func byAppRole(client *api.Client, mount, roleID, secretID string) login {
	return func(ctx context.Context) (*api.Secret, error) {
		return client.Logical().WriteWithContext(ctx, "auth/"+mount+"/login", map[string]any{
			"role_id": roleID, "secret_id": secretID,
		})
	}
}

// byKubernetes logs in with the token of the pod's service account. The file is
// read each time, because Kubernetes replaces it.
func byKubernetes(client *api.Client, role string) login {
	return func(ctx context.Context) (*api.Secret, error) {
		jwt, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/token")
		if err != nil {
			return nil, err
		}
		return client.Logical().WriteWithContext(ctx, "auth/kubernetes/login", map[string]any{
			"role": role, "jwt": string(jwt),
		})
	}
}

// logIn sets the token of a client.
func logIn(ctx context.Context, client *api.Client, by login) (*api.Secret, error) {
	secret, err := by(ctx)
	if err != nil {
		return nil, err
	}
	if secret == nil || secret.Auth == nil {
		return nil, errors.New("the answer to the login holds no token")
	}
	client.SetToken(secret.Auth.ClientToken)
	return secret, nil
}

// keepToken renews the token of a client, and logs in again when that ends,
// until ctx does. Providers made with the client use its newest token.
func keepToken(ctx context.Context, client *api.Client, secret *api.Secret, by login) error {
	const pause = 5 * time.Second // between two failures
	for {
		watcher, err := client.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: secret})
		if err != nil {
			return err
		}
		go watcher.Start()
		select {
		case <-ctx.Done():
			watcher.Stop()
			return ctx.Err()
		case <-watcher.DoneCh(): // not renewable any more, or the server is away
		}
		for {
			if secret, err = logIn(ctx, client, by); err == nil {
				break
			}
			slog.Warn("vault login", "error", err)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
		}
	}
}

// A program that logs in by itself gives the provider a client of its own and
// keeps the client's token alive.
func ExampleNew() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	config := api.DefaultConfig() // reads VAULT_ADDR, VAULT_CACERT, …
	config.Timeout = 10 * time.Second
	config.MinRetryWait, config.MaxRetryWait = 100*time.Millisecond, time.Second
	client, err := api.NewClient(config)
	if err != nil {
		fmt.Println(err)
		return
	}

	by := byAppRole(client, "approle", os.Getenv("ROLE_ID"), os.Getenv("SECRET_ID"))
	if role := os.Getenv("KUBERNETES_ROLE"); role != "" {
		by = byKubernetes(client, role)
	}
	secret, err := logIn(ctx, client, by) // without a token the program does not start
	if err != nil {
		fmt.Println(err)
		return
	}
	go keepToken(ctx, client, secret, by)

	provider, err := vault.New(client, "vault/customers", vault.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	// New asks nothing: is the key there, and derived?
	if err := provider.Probe(ctx); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(provider.Info().KeyID)
}
