package lockbox

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"testing"
)

// The limit: AES-GCM and base64 of the standard library with nothing around
// them, in the same layout and with buffers of their own.
type plainBox struct {
	aead      cipher.AEAD
	box, text []byte
}

func newPlainBox(b *testing.B) *plainBox {
	b.Helper()
	block, err := aes.NewCipher(testKey(1))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	return &plainBox{aead: aead}
}

func (p *plainBox) seal(plaintext []byte) []byte {
	p.box = p.aead.Seal(p.box[:0], nil, plaintext, nil)
	p.text = base64.StdEncoding.AppendEncode(p.text[:0], p.box)
	return p.text
}

func (p *plainBox) open(text []byte) ([]byte, error) {
	var err error
	if p.box, err = base64.StdEncoding.AppendDecode(p.box[:0], text); err != nil {
		return nil, err
	}
	p.text, err = p.aead.Open(p.text[:0], nil, p.box, nil)
	return p.text, err
}

var benchmarkSizes = []int{32, 4 << 10}

func BenchmarkSealText(b *testing.B) {
	for _, size := range benchmarkSizes {
		plaintext := bytes.Repeat([]byte("x"), size)
		b.Run(fmt.Sprintf("%d/limit", size), func(b *testing.B) {
			b.ReportAllocs()
			p := newPlainBox(b)
			for b.Loop() {
				p.seal(plaintext)
			}
		})
		b.Run(fmt.Sprintf("%d/ours", size), func(b *testing.B) {
			b.ReportAllocs()
			box := newTestBox(b, Options{})
			var buf []byte
			for b.Loop() {
				var err error
				if buf, err = box.SealText(buf[:0], plaintext, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpenText(b *testing.B) {
	for _, size := range benchmarkSizes {
		text := bytes.Clone(newPlainBox(b).seal(bytes.Repeat([]byte("x"), size)))
		b.Run(fmt.Sprintf("%d/limit", size), func(b *testing.B) {
			b.ReportAllocs()
			p := newPlainBox(b)
			for b.Loop() {
				if _, err := p.open(text); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/ours", size), func(b *testing.B) {
			b.ReportAllocs()
			box := newTestBox(b, Options{})
			var buf []byte
			for b.Loop() {
				var err error
				if buf, err = box.OpenText(buf[:0], text, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
