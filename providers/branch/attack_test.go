package branch

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"errors"
	"math/big"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/mac"
)

// A ciphertext of AES-GCM can be made to open under two keys. Somebody who knows the keys of
// two branches can so make a wrap that opens under both, to two data keys. The commitment
// in the key column of the record tells which is the right one.
func TestTwoKeyCiphertext(t *testing.T) {
	t.Parallel()
	ec, err := kmsencrypted.Bind(kmsencrypted.Context{"id": 7})
	if err != nil {
		t.Fatal(err)
	}
	var store ID
	a := newKey(store, Name{Branch: "a"}, 1, bytes.Repeat([]byte{1}, 32))
	b := newKey(store, Name{Branch: "b"}, 1, bytes.Repeat([]byte{2}, 32))
	head := append([]byte{format, 0, 0, 0, 1}, make([]byte, saltSize)...)
	nonce := make([]byte, 12)
	body := twoKeys(t, wrappingKey(t, a), wrappingKey(t, b), nonce, a.appendAD(nil, false, ec), b.appendAD(nil, false, ec))
	ciphertext := append(append(head, nonce...), body...)
	one, errA := a.open(ciphertext, false, ec)
	two, errB := b.open(ciphertext, false, ec)
	if errA != nil || errB != nil || bytes.Equal(one, two) || len(one) != kmsencrypted.DataKeySize {
		t.Fatalf("the attack does not work: %v, %v", errA, errB)
	}
	// Under the Box, one of them opens.
	binding := kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{"7"}, Context: kmsencrypted.Context{"id": 7}}
	box := func(k *key) *kmsencrypted.Box {
		box, err := kmsencrypted.NewBox(oneKey{k, ciphertext})
		if err != nil {
			t.Fatal(err)
		}
		return box
	}
	k, err := keyOf(t, box(a), one, binding)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := box(a).Unwrap(t.Context(), k, binding); err != nil {
		t.Errorf("the branch that the column commits to: %v", err)
	}
	if _, err := box(b).Unwrap(t.Context(), k, binding); !errors.Is(err, kmsencrypted.ErrBinding) {
		t.Errorf("the other branch: %v, want ErrBinding", err)
	}
}

func wrappingKey(t *testing.T, k *key) []byte {
	t.Helper()
	raw, err := mac.Expand(k.hidden.Get()[:], wrapLabel+string(make([]byte, saltSize)), 32)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// twoKeys returns 32 bytes and a tag that authenticate under both keys. The tag is
//
//	A·H^n + … + C1·H^3 + C2·H^2 + L·H + E(J0)
//
// so the two that must be equal are a linear equation for C2, with any C1.
func twoKeys(t *testing.T, ka, kb, nonce, adA, adB []byte) []byte {
	t.Helper()
	c1 := bytes.Repeat([]byte{0x5a}, 16)
	// What the tag is with C2 = 0, and its factor H^2.
	side := func(key, ad []byte) (rest, factor *big.Int) {
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		h, e := make([]byte, 16), make([]byte, 16)
		block.Encrypt(h, h)
		block.Encrypt(e, append(append([]byte{}, nonce...), 0, 0, 0, 1))
		blocks := append([]byte{}, ad...)
		blocks = append(blocks, make([]byte, (16-len(ad)%16)%16)...)
		blocks = append(append(blocks, c1...), make([]byte, 16)...)
		blocks = binary.BigEndian.AppendUint64(blocks, uint64(len(ad))*8)
		blocks = binary.BigEndian.AppendUint64(blocks, 32*8)
		hash := new(big.Int)
		for ; len(blocks) > 0; blocks = blocks[16:] {
			hash = times(hash.Xor(hash, polynomial(blocks[:16])), polynomial(h))
		}
		return hash.Xor(hash, polynomial(e)), times(polynomial(h), polynomial(h))
	}
	restA, factorA := side(ka, adA)
	restB, factorB := side(kb, adB)
	c2 := times(new(big.Int).Xor(restA, restB), inverse(new(big.Int).Xor(factorA, factorB)))
	tag := new(big.Int).Xor(restA, times(c2, factorA))
	return append(append(c1, block(c2)...), block(tag)...)
}

// The field of GCM: the highest bit of a block is the coefficient of x^0, here bit 0.

func polynomial(block []byte) *big.Int {
	p := new(big.Int)
	for i := range 128 {
		p.SetBit(p, i, uint(block[i/8]>>(7-i%8)&1))
	}
	return p
}

func block(p *big.Int) []byte {
	b := make([]byte, 16)
	for i := range 128 {
		b[i/8] |= byte(p.Bit(i)) << (7 - i%8)
	}
	return b
}

var modulus = new(big.Int).Xor(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(0x87))

func times(a, b *big.Int) *big.Int {
	product := new(big.Int)
	for i := range 128 {
		if b.Bit(i) == 1 {
			product.Xor(product, new(big.Int).Lsh(a, uint(i)))
		}
	}
	for i := product.BitLen() - 1; i >= 128; i-- {
		if product.Bit(i) == 1 {
			product.Xor(product, new(big.Int).Lsh(modulus, uint(i-128)))
		}
	}
	return product
}

func inverse(a *big.Int) *big.Int { // a to the power of 2^128-2
	result := big.NewInt(1)
	for range 127 {
		a = times(a, a)
		result = times(result, a)
	}
	return result
}

// FuzzDecrypt: what opens is what was sealed, and nothing panics.
func FuzzDecrypt(f *testing.F) {
	k := newKey(ID{}, Name{Branch: "a"}, 7, bytes.Repeat([]byte{3}, 32))
	plaintext := []byte("a data key")
	for _, ec := range []kmsencrypted.EncryptionContext{nil, kmsencrypted.TextContext(""), kmsencrypted.TextContext("x")} {
		bound, err := kmsencrypted.Bind(ec)
		if err != nil {
			f.Fatal(err)
		}
		for _, child := range []bool{false, true} {
			sealed, err := k.seal(plaintext, child, bound)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(sealed, child, "x")
			f.Add(sealed[:len(sealed)-1], child, "")
		}
	}
	f.Fuzz(func(t *testing.T, ciphertext []byte, child bool, text string) {
		bound, err := kmsencrypted.Bind(kmsencrypted.TextContext(text))
		if err != nil {
			t.Skip()
		}
		version, ok := versionOf(ciphertext)
		if !ok || version != k.version {
			return
		}
		got, err := k.open(ciphertext, child, bound)
		switch {
		case err == nil && !bytes.Equal(got, plaintext):
			t.Errorf("opened to %q", got)
		case err != nil && (!errors.Is(err, kmsencrypted.ErrDecrypt) || got != nil):
			t.Errorf("open = %q, %v", got, err)
		}
	})
}

// A salt is used for a limited number of values.
func TestSaltsEnd(t *testing.T) {
	t.Parallel()
	k := newKey(ID{}, Name{Branch: "a"}, 1, bytes.Repeat([]byte{3}, 32))
	salts := make(map[salt]int)
	for range 2*wrapsPerSalt + 1 {
		s, _, err := k.forWriting()
		if err != nil {
			t.Fatal(err)
		}
		salts[s]++
	}
	if len(salts) != 3 {
		t.Errorf("%d salts, want 3", len(salts))
	}
	k.wipe()
	if _, err := k.seal(nil, false, kmsencrypted.BoundContext{}); !errors.Is(err, kmsencrypted.ErrWiped) {
		t.Errorf("seal of a wiped key = %v, want ErrWiped", err)
	}
}
