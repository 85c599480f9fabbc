package rotation

import (
	"context"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

func ours() mover {
	versions := map[int]kmsencrypted.Version{1: {Provider: limit.NewKey()}, 2: {Provider: limit.NewKey()}}
	box := func(current int) *kmsencrypted.Box {
		return job.OrPanic(kmsencrypted.Config{Current: current, Versions: versions}.Box())
	}
	old, current := box(1), box(2)
	ctx := context.Background()
	open := func(id int, column string) ([]byte, error) {
		key, err := current.Unwrap(ctx, column, binding(id))
		if err != nil {
			return nil, err
		}
		return key.Raw()
	}
	return mover{
		name: "kmsencrypted",
		wrap: func(id int) (string, error) { return old.Wrap(ctx, kmsencrypted.NewDataKey(), binding(id)) },
		move: func(columns []string) ([]string, error) {
			wrapped := make([]kmsencrypted.WrappedKey, len(columns))
			for id, column := range columns {
				wrapped[id] = kmsencrypted.WrappedKey{Column: column, Binding: binding(id)}
			}
			moved := make([]string, len(columns))
			for id, result := range current.RewrapAll(ctx, wrapped) {
				if result.Err != nil {
					return nil, result.Err
				}
				moved[id] = result.Column
			}
			return moved, nil
		},
		before: at("v1:", open), after: at("v2:", open),
	}
}

// at refuses a column of another version.
func at(version string, open func(int, string) ([]byte, error)) func(int, string) ([]byte, error) {
	return func(id int, column string) ([]byte, error) {
		if !strings.HasPrefix(column, version) {
			return nil, fmt.Errorf("the column does not begin with %s", version)
		}
		return open(id, column)
	}
}

func binding(id int) kmsencrypted.Binding {
	text := strconv.Itoa(id)
	return kmsencrypted.Binding{
		Table: "customers", Column: "encrypted_kms_key", ID: []string{text},
		Context: kmsencrypted.ModelContext{Name: "customers", ID: text},
	}
}

// least is a loop by hand. It binds each wrap to its record, but commits to no key.
func least() mover {
	old, current := limit.GCM(limit.Random(32)), limit.GCM(limit.Random(32))
	open := func(kek cipher.AEAD) func(int, string) ([]byte, error) {
		return func(id int, column string) ([]byte, error) {
			wrapped, err := base64.StdEncoding.DecodeString(column[3:])
			if err != nil {
				return nil, err
			}
			return kek.Open(nil, nil, wrapped, limit.AppendContext(nil, id))
		}
	}
	return mover{
		name: "limit",
		wrap: func(id int) (string, error) {
			_, column := limit.Wrap(old, id, false)
			return column, nil
		},
		move:   each(func(id int, column string) (string, error) { return limit.Rewrap(old, current, column, id) }),
		before: at("v1:", open(old)), after: at("v2:", open(current)),
	}
}
