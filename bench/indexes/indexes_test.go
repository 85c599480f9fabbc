package indexes

import (
	"encoding/base64"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// Every index gives the same text for the same value only, of 32 bytes or more.
func TestIndexes(t *testing.T) {
	t.Parallel()
	key := limit.Random(32)
	for _, x := range append(peers(), ours(key, blindindex.Argon2id{}), ours(key, blindindex.HMAC{}), argon2id(key), hmacSHA256(key)) {
		first, again, other := textOf(t, x, value), textOf(t, x, value), textOf(t, x, value+" ")
		if first != again || first == other {
			t.Errorf("%s: %q, again %q, another value %q", x.name, first, again, other)
		}
		if raw, err := base64.StdEncoding.DecodeString(first); err != nil || len(raw) < 32 {
			t.Errorf("%s: %d bytes, %v", x.name, len(raw), err)
		}
	}
}

// The limits give our bytes.
func TestLimits(t *testing.T) {
	t.Parallel()
	key := limit.Random(32)
	for name, c := range map[string]struct {
		algorithm blindindex.Algorithm
		limit     index
	}{"Argon2id": {blindindex.Argon2id{}, argon2id(key)}, "HMAC": {blindindex.HMAC{}, hmacSHA256(key)}} {
		if got, want := textOf(t, ours(key, c.algorithm), value), textOf(t, c.limit, value); got != want {
			t.Errorf("%s: %q, of the limit %q", name, got, want)
		}
	}
}

func textOf(t *testing.T, x index, value string) string {
	t.Helper()
	text, err := x.text(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
