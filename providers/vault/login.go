package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"
)

// TokenFile returns a [Options].Login that reads a token from a file, such as the
// sink of a Vault agent or the file in which the vault program keeps its token,
// ~/.vault-token. Spaces and newlines around the token are ignored.
func TokenFile(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		token := strings.TrimSpace(string(text))
		if token == "" {
			return "", fmt.Errorf("%s is empty", path)
		}
		return token, nil
	}
}

// loginPause is how long there is no other login after one that did not help. A
// server also answers 403 if a valid token lacks a right.
const loginPause = 5 * time.Second

// login gets a new token for a client when the server refuses the old one.
type login struct {
	token   func(context.Context) (string, error)
	turn    chan struct{} // holds one element while no request logs in
	useless atomic.Int64  // when a new token was refused as well, in Unix nanoseconds
}

func newLogin(token func(context.Context) (string, error)) *login {
	l := &login{token: token, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l
}

// renew reports whether the client has another token than used now. Of many
// requests refused with one token, the first logs in and the others wait for it.
func (l *login) renew(ctx context.Context, client *api.Client, used string) (bool, error) {
	select {
	case <-l.turn:
		defer func() { l.turn <- struct{}{} }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if client.Token() != used {
		return true, nil
	}
	if time.Since(time.Unix(0, l.useless.Load())) < loginPause {
		return false, nil
	}
	token, err := l.token(ctx)
	if err != nil || token == used { // the same one: a file that is not renewed yet
		return false, err
	}
	client.SetToken(token)
	return true, nil
}

// loginError is why there is no new token for a refused one.
type loginError struct{ cause error }

func (e loginError) Error() string { return e.cause.Error() }
func (e loginError) Unwrap() error { return e.cause }

// request makes a request. If the server refuses the token and the provider can
// get another one, the request is made once more.
func (p *Provider) request(ctx context.Context, make func() (*api.Secret, error)) (*api.Secret, error) {
	used := p.client.Token()
	secret, err := make()
	if p.login == nil || !forbidden(err) {
		return secret, err
	}
	renewed, failed := p.login.renew(ctx, p.client, used)
	if failed != nil {
		return nil, loginError{failed}
	}
	if !renewed {
		return nil, err
	}
	secret, err = make()
	if forbidden(err) {
		p.login.useless.Store(time.Now().UnixNano())
	}
	return secret, err
}

func forbidden(err error) bool {
	refusal, ok := errors.AsType[*api.ResponseError](err)
	return ok && refusal.StatusCode == http.StatusForbidden
}
