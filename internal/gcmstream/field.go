package gcmstream

import "encoding/binary"

// element is a polynomial over GF(2) modulo x^128 + x^7 + x^2 + x + 1 in GCM's
// order: the coefficient of x^0 is the highest bit of hi.
type element struct{ hi, lo uint64 }

// one is the polynomial 1.
var one = element{hi: 1 << 63}

func load(block []byte) element {
	return element{binary.BigEndian.Uint64(block), binary.BigEndian.Uint64(block[8:])}
}

func (a element) bytes() (block [16]byte) {
	binary.BigEndian.PutUint64(block[:], a.hi)
	binary.BigEndian.PutUint64(block[8:], a.lo)
	return block
}

func (a element) plus(b element) element { return element{a.hi ^ b.hi, a.lo ^ b.lo} }

// times multiplies bit by bit, with masks instead of branches, because the hash
// key is secret. It is called once per segment.
func (a element) times(b element) (product element) {
	const reduction = 0xe1 << 56 // x^7 + x^2 + x + 1
	for _, word := range [2]uint64{a.hi, a.lo} {
		for range 64 {
			take := -(word >> 63)
			product.hi ^= b.hi & take
			product.lo ^= b.lo & take
			word <<= 1
			carry := -(b.lo & 1)
			b.lo = b.lo>>1 | b.hi<<63
			b.hi = b.hi>>1 ^ reduction&carry
		}
	}
	return product
}

// inverse returns 1/a, which is a to the power of 2^128-2: the product of
// a^(2^i) for all i but 0.
func (a element) inverse() element {
	result := one
	for range 127 {
		a = a.times(a)
		result = result.times(a)
	}
	return result
}

// power raises a to a public exponent.
func (a element) power(n uint64) element {
	result := one
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			result = result.times(a)
		}
		a = a.times(a)
	}
	return result
}
