package gcmstream

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func randomBytes(r *rand.Rand, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

func standardGCM(t testing.TB, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm
}

// seal encrypts in parts of the given sizes, over and over, in their place and
// with room behind them or not.
func seal(t testing.TB, key, nonce, plaintext, ad []byte, parts ...int) []byte {
	t.Helper()
	roomy := sealParts(t, key, nonce, plaintext, ad, TagSize, parts...)
	if tight := sealParts(t, key, nonce, plaintext, ad, 0, parts...); !bytes.Equal(roomy, tight) {
		t.Errorf("%d bytes in parts of %v: two ciphertexts", len(plaintext), parts)
	}
	return roomy
}

func sealParts(t testing.TB, key, nonce, plaintext, ad []byte, room int, parts ...int) []byte {
	t.Helper()
	m, err := New(key, nonce, ad)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(plaintext))
	for i, from := 0, 0; from < len(plaintext); i++ {
		n := min(parts[i%len(parts)], len(plaintext)-from)
		part := append(make([]byte, 0, n+room), plaintext[from:from+n]...)
		if err := m.Encrypt(part, part); err != nil {
			t.Fatal(err)
		}
		copy(out[from:], part)
		from += n
	}
	tag := m.Tag()
	if again := m.Tag(); again != tag {
		t.Errorf("Tag() = %x, then %x", tag, again)
	}
	return append(out, tag[:]...)
}

// The standard library is the reference: every size around a block and a
// segment, in parts of every kind.
func TestSameAsStandardGCM(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 15, 16, 17, 31, 32, 33, 255, 256, 4096, 65535, 65536, 65537, 200001} {
		for _, adSize := range []int{0, 1, 16, 20, 1000} {
			key, nonce, ad, plaintext := randomBytes(r, 16+16*(n%2)), randomBytes(r, NonceSize), randomBytes(r, adSize), randomBytes(r, n)
			want := standardGCM(t, key).Seal(nil, nonce, plaintext, ad)
			for _, parts := range [][]int{{1 << 20}, {65536}, {4096}, {1009}, {7, 64, 16, 1, 333}} {
				if got := seal(t, key, nonce, plaintext, ad, parts...); !bytes.Equal(got, want) {
					t.Errorf("%d bytes, associated data of %d, in parts of %v: another ciphertext or tag", n, adSize, parts)
				}
			}
			for _, size := range []int{16, 4096, 65536} {
				if got := open(t, key, nonce, ad, want, size); !bytes.Equal(got, plaintext) {
					t.Errorf("%d bytes in parts of %d: decrypted to other bytes", n, size)
				}
			}
			m, err := New(key, nonce, ad)
			if err != nil {
				t.Fatal(err)
			}
			for _, offset := range []int{0, n / 3, n / 2, n} {
				got := make([]byte, n-offset)
				m.StreamAt(int64(offset)).XORKeyStream(got, want[offset:n])
				if !bytes.Equal(got, plaintext[offset:]) {
					t.Errorf("StreamAt(%d) of %d bytes decrypts to other bytes", offset, n)
				}
			}
		}
	}
}

// open checks a message and then decrypts its parts.
func open(t testing.TB, key, nonce, ad, sealed []byte, size int) (plaintext []byte) {
	t.Helper()
	m, err := New(key, nonce, ad)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, tag := sealed[:len(sealed)-TagSize], sealed[len(sealed)-TagSize:]
	var proofs [][TagSize]byte
	for part := range slices.Chunk(ciphertext, size) {
		if err := m.Authenticate(part); err != nil {
			t.Fatal(err)
		}
		proofs = append(proofs, m.Proof())
	}
	if got := m.Tag(); !bytes.Equal(got[:], tag) {
		t.Errorf("Tag() = %x, want %x", got, tag)
	}
	for i, proof := range proofs {
		from := i * size
		part := append(make([]byte, 0, size+TagSize), ciphertext[from:min(from+size, len(ciphertext))]...)
		if !m.Open(part, int64(from), proof) {
			t.Fatalf("part %d of %d bytes does not open", i, len(part))
		}
		plaintext = append(plaintext, part...)
	}
	return plaintext
}

// A part opens only as itself and in its place; after an error no plaintext remains.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	const size = 64
	m, err := New(randomBytes(r, 32), randomBytes(r, NonceSize), nil)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext := randomBytes(r, 3*size-7)
	var parts [][]byte
	var proofs [][TagSize]byte
	for part := range slices.Chunk(ciphertext, size) {
		if err := m.Authenticate(part); err != nil {
			t.Fatal(err)
		}
		parts, proofs = append(parts, part), append(proofs, m.Proof())
	}
	open := func(part []byte, index int, proof [TagSize]byte) ([]byte, bool) {
		buffer := append(make([]byte, 0, size+TagSize), part...)
		ok := m.Open(buffer, int64(index*size), proof)
		return buffer, ok
	}
	for i, part := range parts {
		if _, ok := open(part, i, proofs[i]); !ok {
			t.Errorf("part %d does not open", i)
		}
		other := (i + 1) % len(parts)
		flippedProof := proofs[i]
		flippedProof[15] ^= 1
		for what, tried := range map[string]func() ([]byte, bool){
			"another part":     func() ([]byte, bool) { return open(parts[other], i, proofs[i]) },
			"another place":    func() ([]byte, bool) { return open(part, other, proofs[i]) },
			"another proof":    func() ([]byte, bool) { return open(part, i, proofs[other]) },
			"a changed proof":  func() ([]byte, bool) { return open(part, i, flippedProof) },
			"a shortened part": func() ([]byte, bool) { return open(part[:len(part)-1], i, proofs[i]) },
			"a changed part": func() ([]byte, bool) {
				changed := bytes.Clone(part)
				changed[r.IntN(len(changed))] ^= 1 << r.IntN(8)
				return open(changed, i, proofs[i])
			},
		} {
			if left, ok := tried(); ok || !bytes.Equal(left, make([]byte, len(left))) {
				t.Errorf("part %d, %s: opened %v, and left %x", i, what, ok, left)
			}
		}
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		a, b, c := element{r.Uint64(), r.Uint64()}, element{r.Uint64(), r.Uint64()}, element{r.Uint64(), r.Uint64()}
		for what, equal := range map[string]bool{
			"a*1 = a":             a.times(one) == a,
			"a*b = b*a":           a.times(b) == b.times(a),
			"(a*b)*c = a*(b*c)":   a.times(b).times(c) == a.times(b.times(c)),
			"a*(b+c) = a*b + a*c": a.times(b.plus(c)) == a.times(b).plus(a.times(c)),
			"a^5":                 a.power(5) == a.times(a).times(a).times(a).times(a),
			"a^0":                 a.power(0) == one,
			"a/a":                 a.times(a.inverse()) == one,
		} {
			if !equal {
				t.Errorf("%s does not hold for %x, %x, %x", what, a, b, c)
			}
		}
	}
}

// The counter has 32 bits: more would repeat the key stream.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	m, err := New(make([]byte, 32), make([]byte, NonceSize), nil)
	if err != nil {
		t.Fatal(err)
	}
	m.size = MaxSize - 20
	p := make([]byte, 21)
	if err := m.Encrypt(p, p); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Encrypt beyond the limit = %v, want ErrTooLarge", err)
	}
	if err := m.Authenticate(p); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Authenticate beyond the limit = %v, want ErrTooLarge", err)
	}
	if err := m.Encrypt(p, p[:20]); err != nil {
		t.Errorf("Encrypt up to the limit = %v", err)
	}
}

func FuzzSameAsStandardGCM(f *testing.F) {
	f.Add([]byte("plaintext"), []byte("data"), uint16(3))
	f.Add(make([]byte, 1000), []byte(nil), uint16(16))
	f.Fuzz(func(t *testing.T, plaintext, ad []byte, part uint16) {
		key, nonce := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{9}, NonceSize)
		want := standardGCM(t, key).Seal(nil, nonce, plaintext, ad)
		if got := seal(t, key, nonce, plaintext, ad, int(part)+1); !bytes.Equal(got, want) {
			t.Errorf("another ciphertext or tag: %x, want %x", got, want)
		}
		if got := open(t, key, nonce, ad, want, 16*(int(part)+1)); !bytes.Equal(got, plaintext) {
			t.Errorf("decrypted to %x, want %x", got, plaintext)
		}
	})
}

func BenchmarkEncrypt(b *testing.B) {
	for _, size := range []int{64 << 10, 256 << 10} {
		p, out := make([]byte, size), make([]byte, size+TagSize)
		nonce := make([]byte, NonceSize)
		b.Run(fmt.Sprintf("%d/limit", size), func(b *testing.B) {
			gcm := standardGCM(b, make([]byte, 32))
			b.SetBytes(int64(size))
			for b.Loop() {
				gcm.Seal(out[:0], nonce, p, nil)
			}
		})
		b.Run(fmt.Sprintf("%d/ours", size), func(b *testing.B) {
			m, err := New(make([]byte, 32), nonce, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			for b.Loop() {
				m.size = 0 // the benchmark may go beyond the limit
				if err := m.Encrypt(out, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
