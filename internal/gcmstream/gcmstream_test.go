package gcmstream

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"math/rand/v2"
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

// seal encrypts in parts of the given sizes, over and over.
func seal(t testing.TB, key, nonce, plaintext, ad []byte, parts ...int) []byte {
	t.Helper()
	m, err := New(key, nonce, ad)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(plaintext))
	for i, from := 0, 0; from < len(plaintext); i++ {
		n := min(parts[i%len(parts)], len(plaintext)-from)
		if err := m.Encrypt(out[from:], plaintext[from:from+n]); err != nil {
			t.Fatal(err)
		}
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
			m, err := New(key, nonce, ad)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				got := make([]byte, n)
				if err := m.Authenticate(want[:n]); err != nil {
					t.Fatal(err)
				}
				m.Decrypt(got, want[:n])
				if tag := m.Tag(); !bytes.Equal(tag[:], want[n:]) || !bytes.Equal(got, plaintext) {
					t.Errorf("%d bytes: decrypted to other bytes or tag", n)
				}
				m.Reset()
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
