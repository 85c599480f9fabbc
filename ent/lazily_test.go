package kment_test

import (
	"context"
	"testing"

	kment "github.com/kmsencrypted/kmsencrypted/ent"
)

func lazily(t testing.TB) context.Context { return kment.Lazily(t.Context()) }
