package keywrap_test

import (
	"bytes"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/keywrap"
)

func TestPad(t *testing.T) {
	t.Parallel()
	for n := range 200 {
		value := bytes.Repeat([]byte{0x80}, n)
		padded := keywrap.Pad(value)
		if len(padded) < 16 || len(padded)%8 != 0 || len(padded) > max(16, n+8) {
			t.Errorf("%d bytes are padded to %d", n, len(padded))
		}
		if got, ok := keywrap.Unpad(padded); !ok || !bytes.Equal(got, value) {
			t.Errorf("%d bytes: Unpad = %x, %v", n, got, ok)
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, 16), append([]byte{0x80}, make([]byte, 16)...), {0x80, 1}, bytes.Repeat([]byte{7}, 16)} {
		if got, ok := keywrap.Unpad(bytes.Clone(bad)); ok {
			t.Errorf("Unpad(%x) = %x", bad, got)
		}
	}
}
