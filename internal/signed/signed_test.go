package signed

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func keys(t testing.TB, use string, secrets ...string) Keys {
	t.Helper()
	var raw [][]byte
	for _, s := range secrets {
		raw = append(raw, bytes.Repeat([]byte(s), minSecret))
	}
	k, err := New(use, raw...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSigned(t *testing.T) {
	t.Parallel()
	k, said := keys(t, "use", "a"), []byte("what is said\x00")
	token := k.Sign("purpose", said)
	if got, ok := k.Verify(token, "purpose"); !ok || !bytes.Equal(got, said) {
		t.Errorf("Verify(Sign(%q)) = %q, %t", said, got, ok)
	}
	if got, ok := keys(t, "use", "b", "a").Verify(token, "purpose"); !ok || !bytes.Equal(got, said) {
		t.Errorf("under a second secret: %q, %t", got, ok)
	}
	for what, k := range map[string]Keys{"another secret": keys(t, "use", "b"), "another use": keys(t, "other", "a"), "no keys": {}} {
		if _, ok := k.Verify(token, "purpose"); ok {
			t.Errorf("%s verifies", what)
		}
	}
	if _, ok := k.Verify(token, "other"); ok {
		t.Error("another purpose verifies")
	}
	for i := range token {
		for _, changed := range []string{token[:i] + token[i+1:], token[:i] + "\n" + token[i:], token[:i] + string(token[i]^1) + token[i+1:]} {
			if _, ok := k.Verify(changed, "purpose"); ok {
				t.Errorf("%q verifies, which was %q", changed, token)
			}
		}
	}
	for _, secrets := range [][][]byte{nil, {nil}, {make([]byte, 31)}, {make([]byte, 32), make([]byte, 5)}} {
		if _, err := New("use", secrets...); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("New(%d secrets): %v", len(secrets), err)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if text := fmt.Sprintf(verb, *k.hidden.Get()); text == "" || strings.Contains(fmt.Sprintf(verb, k), text) {
			t.Errorf("%s prints keys", verb)
		}
	}
}
