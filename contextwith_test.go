package kmsencrypted_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func TestContextWith(t *testing.T) {
	t.Parallel()
	pair := kmsencrypted.Pair{Name: "attachment", Value: "license"}
	for _, c := range []struct {
		ec   kmsencrypted.EncryptionContext
		want string
	}{
		{kmsencrypted.Context{"tenant": 7, "a": "b"}, `{"a":"b","attachment":"license","tenant":"7"}`},
		{kmsencrypted.ModelContext{Name: "User", ID: "7"}, `{"attachment":"license","model_id":"7","model_name":"User"}`},
		{kmsencrypted.Context{}, `{"attachment":"license"}`},
		{nil, `{"attachment":"license"}`},
		{kmsencrypted.VersionedContext(func(int) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"v": 1}, nil
		}), `{"attachment":"license","v":"1"}`},
	} {
		bound, err := kmsencrypted.Bind(kmsencrypted.ContextWith(c.ec, pair))
		if err != nil || bound.String() != c.want {
			t.Errorf("%v with a pair = %s, %v, want %s", c.ec, bound, err, c.want)
		}
	}
	for _, ec := range []kmsencrypted.EncryptionContext{kmsencrypted.Context{"attachment": "photo"}, kmsencrypted.TextContext("text"), kmsencrypted.Context{"a": 1.5}} {
		if _, err := kmsencrypted.Bind(kmsencrypted.ContextWith(ec, pair)); !errors.Is(err, kmsencrypted.ErrContext) {
			t.Errorf("%v with a pair = %v, want ErrContext", ec, err)
		}
	}
}
