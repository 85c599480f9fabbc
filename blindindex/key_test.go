package blindindex

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	digits := strings.Repeat("0a", KeySize)
	for _, text := range []string{digits, strings.ToUpper(digits)} {
		if key, err := ParseKey(text); err != nil || !bytes.Equal(key, bytes.Repeat([]byte{10}, KeySize)) {
			t.Errorf("ParseKey(%q) = %x, %v, want 32 times 0a", text, key, err)
		}
	}
	for _, text := range []string{"", "short", strings.Repeat("k", KeySize), digits[2:], digits + "00", digits + "\n", digits[1:] + "g"} {
		if key, err := ParseKey(text); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("ParseKey(%q) = %x, %v, want %v", text, key, err, kmsencrypted.ErrConfig)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(strings.Repeat("0a", KeySize))
	f.Add(strings.Repeat("FF", KeySize))
	f.Add(strings.Repeat("k", KeySize))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseKey(text)
		if err != nil {
			return
		}
		if back := hex.EncodeToString(key); len(key) != KeySize || back != strings.ToLower(text) {
			t.Errorf("ParseKey(%q) = %s, want the same digits", text, back)
		}
	})
}

func TestMasterKey(t *testing.T) {
	own, lockbox := strings.Repeat("01", KeySize), strings.Repeat("02", KeySize)
	const unset = "unset"
	for _, c := range []struct{ own, lockbox, want string }{
		{own, lockbox, own},
		{own, unset, own},
		{unset, lockbox, lockbox},
		{unset, unset, ""},
		{"", lockbox, ""}, // set but empty: a mistake, not an absence
		{"short", lockbox, ""},
	} {
		for name, text := range map[string]string{"BLIND_INDEX_MASTER_KEY": c.own, "LOCKBOX_MASTER_KEY": c.lockbox} {
			t.Setenv(name, text) // for putting it back
			if text == unset {
				os.Unsetenv(name)
			}
		}
		key, err := MasterKeyFromEnv()
		var got string
		if !key.IsZero() {
			got = hex.EncodeToString(key.hidden.Get()[:])
		}
		if got != c.want || errors.Is(err, kmsencrypted.ErrConfig) != (c.want == "") {
			t.Errorf("MasterKeyFromEnv() with %q and %q = %s, %v, want %q", c.own, c.lockbox, got, err, c.want)
		}
	}
}

func TestColumnName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version int
		legacy  bool
		want    string
	}{
		{1, false, "email_bidx"}, {2, false, "email_bidx_v2"}, {1, true, "encrypted_email_bidx"}, {3, true, "encrypted_email_bidx_v3"},
	} {
		if got := ColumnName("email", c.version, c.legacy); got != c.want {
			t.Errorf("ColumnName(email, %d, %t) = %q, want %q", c.version, c.legacy, got, c.want)
		}
	}
}

func TestDeriveKeyIsSpecific(t *testing.T) {
	t.Parallel()
	seen := map[string][2]string{}
	for _, at := range [][2]string{{"users", "email_bidx"}, {"users", "email_bidx_v2"}, {"user", "semail_bidx"}, {"email_bidx", "users"}} {
		key, err := testMaster().IndexKey(at[0], at[1])
		if err != nil || len(key) != KeySize {
			t.Fatalf("IndexKey(%q) = %d bytes, %v, want %d", at, len(key), err, KeySize)
		}
		if other, ok := seen[string(key)]; ok {
			t.Errorf("IndexKey(%q) = the key of %q, want another", at, other)
		}
		seen[string(key)] = at
	}
}

// testKey is the key of most cases in blind_index.json.
func testMaster() MasterKey {
	master, err := NewMasterKey(testKey())
	if err != nil {
		panic(err)
	}
	return master
}

func testKey() []byte {
	key, err := ParseKey("10b212adae75e3a062479fda6ac9bdf499beca18ea9e938d3bf83e0e6fe31c94")
	if err != nil {
		panic(err)
	}
	return key
}

// fast is an index that tests need not wait for.
func fast(t testing.TB, o Options) *Index {
	t.Helper()
	if o.Algorithm == nil {
		o.Algorithm = HMAC{}
	}
	x, err := New(testKey(), "email_bidx", o)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func compute(t testing.TB, x *Index, value any) Column {
	t.Helper()
	column, err := x.Compute(value)
	if err != nil {
		t.Fatalf("Compute = %v, want a column", err)
	}
	return column
}
