package keyvault

import (
	"crypto/aes"
	"encoding/hex"
	"testing"
)

// TestKeyWrapVectors compares with RFC 3394, sections 4.3, 4.5 and 4.6.
func TestKeyWrapVectors(t *testing.T) {
	t.Parallel()
	kek := "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
	for plaintext, want := range map[string]string{
		"00112233445566778899aabbccddeeff":                                 "64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7",
		"00112233445566778899aabbccddeeff0001020304050607":                 "a8f9bc1612c68b3ff6e6f4fbe30e71e4769c8b80a32cb8958cd5d17d6b254da1",
		"00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f": "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21",
	} {
		raw, _ := hex.DecodeString(kek)
		block, err := aes.NewCipher(raw)
		if err != nil {
			t.Fatal(err)
		}
		in, _ := hex.DecodeString(plaintext)
		got, err := keyWrap(block, in)
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("keyWrap(%s) = %x, %v, want %s", plaintext, got, err, want)
		}
		back, err := keyUnwrap(block, got)
		if err != nil || hex.EncodeToString(back) != plaintext {
			t.Errorf("keyUnwrap(%s) = %x, %v, want %s", want, back, err, plaintext)
		}
		for i := range got {
			got[i] ^= 1
			if back, err := keyUnwrap(block, got); err == nil {
				t.Errorf("keyUnwrap with byte %d changed = %x, want an error", i, back)
			}
			got[i] ^= 1
		}
	}
}
