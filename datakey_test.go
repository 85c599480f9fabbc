package kmsencrypted

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha512"
	"errors"
	"testing"
)

// The shortcut in deriveRecordKeys gives what HKDF-Expand gives.
func TestNativeRecordKeysAreHKDF(t *testing.T) {
	k := NewDataKey()
	raw, err := k.Raw()
	if err != nil {
		t.Fatal(err)
	}
	okm, err := hkdf.Expand(sha512.New, raw, recordLabel, 64)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := k.record()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(keys.tag[:], okm[32:40]) || !bytes.Equal(keys.commitment[:], okm[40:]) {
		t.Error("tag and commitment key are not bytes 32 to 63 of HKDF-Expand")
	}
	block, err := newGCM(okm[:32])
	if err != nil {
		t.Fatal(err)
	}
	if plaintext, err := block.Open(nil, nil, keys.sealing.Seal(nil, nil, []byte("x"), nil), nil); err != nil || string(plaintext) != "x" {
		t.Errorf("sealing key is not bytes 0 to 31 of HKDF-Expand: %v", err)
	}
}

func TestDataKeyWipe(t *testing.T) {
	k := NewDataKey()
	same := k
	if !k.Equal(same) || k.Equal(NewDataKey()) {
		t.Error("Equal does not tell keys apart")
	}
	k.Wipe()
	if _, err := same.Raw(); !errors.Is(err, ErrWiped) {
		t.Errorf("Raw of a wiped key: %v, want ErrWiped", err)
	}
	if _, err := same.Cipher(); !errors.Is(err, ErrWiped) {
		t.Errorf("Cipher of a wiped key: %v, want ErrWiped", err)
	}
	if _, err := (DataKey{}).Derive("x", 32); !errors.Is(err, ErrWiped) {
		t.Errorf("Derive of no key: %v, want ErrWiped", err)
	}
	if k.hidden.Get().raw != [DataKeySize]byte{} {
		t.Error("Wipe left the key in memory")
	}
}
