package rotatecli

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted"
)

// OrAbsent returns p, or if err is not nil a provider in its place that returns err
// for every call. It is for what the Open of a provider returns:
//
//	key, err := vault.Open(ctx, "vault/customers", vault.Options{})
//	version := kmsencrypted.Version{Provider: rotatecli.OrAbsent("vault/customers", key, err)}
//
// So the state of a rotation can be shown, and the rotation paused, while the key
// service is away or refuses the program: "rotate status", "rotate history", "rotate
// plan", "versions" and others need no key. Those that do stop with err before the
// first record. The caller still closes p if it is an io.Closer.
func OrAbsent(keyID string, p kmsencrypted.Provider, err error) kmsencrypted.Provider {
	if err == nil {
		return p
	}
	return absent{keyID, err}
}

type absent struct {
	keyID string
	err   error
}

func (a absent) Info() kmsencrypted.KeyInfo {
	return kmsencrypted.KeyInfo{Provider: "absent", KeyID: a.keyID, Tag: "absent"}
}

func (a absent) Encrypt(context.Context, []byte, kmsencrypted.BoundContext) ([]byte, error) {
	return nil, a.err
}

func (a absent) Decrypt(context.Context, []byte, kmsencrypted.BoundContext) ([]byte, error) {
	return nil, a.err
}

// Probe makes commands that need the key fail before the first record.
func (a absent) Probe(context.Context) error { return a.err }
