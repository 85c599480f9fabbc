package zlib6

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// lcg is the generator of the vector file: which of n things comes next.
type lcg uint32

func (x *lcg) next(n int) int {
	*x = (*x*1103515245 + 12345) % (1 << 31)
	return int(*x>>16) % n
}

func fromAlphabet(seed uint32, alphabet []byte, length int) []byte {
	x, text := lcg(seed), make([]byte, length)
	for i := range text {
		text[i] = alphabet[x.next(len(alphabet))]
	}
	return text
}

// rule says how the text of a case is made.
type rule struct {
	LCG *struct {
		Seed     uint32
		Alphabet vectors.Stored
		Length   int
	}
	Words *struct {
		Seed   uint32
		Words  []string
		Length int
	}
	Again *struct {
		Seed       uint32
		Block, Gap int
	}
	Mixed *struct {
		Seed   uint32
		Length int
	}
}

func (r rule) isKnown() bool {
	return r.LCG != nil && len(r.LCG.Alphabet.Bytes) > 0 || r.Words != nil && len(r.Words.Words) > 0 || r.Again != nil || r.Mixed != nil
}

func (r rule) text() []byte {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	switch {
	case r.LCG != nil:
		return fromAlphabet(r.LCG.Seed, r.LCG.Alphabet.Bytes, r.LCG.Length)
	case r.Words != nil:
		x, text := lcg(r.Words.Seed), []byte(nil)
		for len(text) < r.Words.Length {
			text = append(text, r.Words.Words[x.next(len(r.Words.Words))]+" "...)
		}
		return text[:r.Words.Length]
	case r.Again != nil:
		block := fromAlphabet(r.Again.Seed, []byte("abcdefgh"), r.Again.Block)
		return bytes.Join([][]byte{block, fromAlphabet(r.Again.Seed+1, every, r.Again.Gap), block}, nil)
	}
	return append(fromAlphabet(r.Mixed.Seed, every, r.Mixed.Length), fromAlphabet(r.Mixed.Seed, []byte("0123456789"), r.Mixed.Length)...)
}

func TestVectors(t *testing.T) {
	t.Parallel()
	var file struct {
		Cases []struct {
			Rule           rule
			SHA256         string
			DeflatedLength int             `json:"deflated_length"`
			DeflatedSHA256 string          `json:"deflated_sha256"`
			Deflated       *vectors.Stored // of short ones
		}
	}
	vectors.Load(t, "activerecord_deflate.json", &file)
	ran := 0
	for i, c := range file.Cases {
		if !c.Rule.isKnown() {
			continue
		}
		ran++
		text := c.Rule.text()
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != c.SHA256 {
			t.Fatalf("case %d: the rule makes another text", i)
		}
		got := Append([]byte("before"), text)[len("before"):]
		if sum := sha256.Sum256(got); hex.EncodeToString(sum[:]) != c.DeflatedSHA256 || len(got) != c.DeflatedLength {
			t.Errorf("case %d: %d bytes of text: %d bytes, want %d or other ones", i, len(text), len(got), c.DeflatedLength)
		}
		if c.Deflated != nil && !bytes.Equal(got, c.Deflated.Bytes) {
			t.Errorf("case %d: Append = %x, want %x", i, got, c.Deflated.Bytes)
		}
	}
	vectors.Ran(t, "activerecord_deflate.json", ran)
	vectors.Skipped(t, "activerecord_deflate.json", len(file.Cases)-ran, "the rule of the text is not known")
}

// randomText is text of one of several kinds: few letters or many, words, parts of
// itself again at any distance, and bytes with the frequencies of the Fibonacci
// numbers, whose codes are too long.
func randomText(r *rand.Rand) []byte {
	length := r.IntN(1 << r.IntN(18))
	letters := 1 + r.IntN(1<<r.IntN(9))
	text := make([]byte, 0, length+300)
	kind := r.IntN(5)
	for len(text) < length {
		switch {
		case kind == 1 && len(text) > 0 && r.IntN(20) == 0, kind == 2 && len(text) > 0 && r.IntN(3) == 0:
			from := r.IntN(len(text))
			text = append(text, text[from:min(len(text), from+r.IntN(300))]...)
		case kind == 3:
			c := 0
			for c < 40 && r.IntN(1000) < 618 {
				c++
			}
			text = append(text, byte(c))
		case kind == 4 && r.IntN(500) == 0:
			letters = 1 + r.IntN(256)
		default:
			text = append(text, byte(r.IntN(min(letters, 256))))
		}
	}
	return text[:length]
}

// The zlib of this machine, by a program that has one.
func TestZlib(t *testing.T) {
	t.Parallel()
	// They end when their input does.
	programs := map[string][]string{
		"python3": {"-c", `import sys,zlib,struct
i,o=sys.stdin.buffer,sys.stdout.buffer
while True:
  n=i.read(4)
  if len(n)<4: break
  c=zlib.compress(i.read(struct.unpack(">I",n)[0]),6)
  o.write(struct.pack(">I",len(c))+c); o.flush()`},
		"ruby": {"-rzlib", "-e", `$stdin.binmode; $stdout.binmode
while n = $stdin.read(4)
  c = Zlib::Deflate.deflate($stdin.read(n.unpack1("N")) || "")
  $stdout.write([c.size].pack("N") + c); $stdout.flush
end`},
	}
	ran := 0
	for name, args := range programs {
		if _, err := exec.LookPath(name); err != nil {
			continue
		}
		ran++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			zlib := startZlib(t, exec.Command(name, args...))
			seed := rand.Uint64()
			r := rand.New(rand.NewPCG(seed, 6))
			cases := 2000
			if testing.Short() {
				cases = 200
			}
			for i := range cases {
				text := randomText(r)
				if got, want := Append(nil, text), zlib(text); !bytes.Equal(got, want) {
					t.Fatalf("seed %d, case %d: %d bytes of text: %d bytes, want the %d of zlib", seed, i, len(text), len(got), len(want))
				}
			}
		})
	}
	if ran == 0 {
		t.Skip("neither python3 nor ruby, whose zlib to compare with")
	}
}

func startZlib(t *testing.T, cmd *exec.Cmd) func(text []byte) []byte {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, stderr.String())
		}
	})
	return func(text []byte) []byte {
		go in.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...))
		var size [4]byte
		if _, err := io.ReadFull(out, size[:]); err != nil {
			t.Fatal(err, stderr.String())
		}
		compressed := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(out, compressed); err != nil {
			t.Fatal(err)
		}
		return compressed
	}
}

// What it writes can be read, for any text.
func FuzzAppend(f *testing.F) {
	for i := range uint64(20) {
		f.Add(randomText(rand.New(rand.NewPCG(i, 1))))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := zlib.NewReader(bytes.NewReader(Append(nil, text)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("zlib.NewReader: %d bytes, %v; want %d", len(got), err, len(text))
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	text := fromAlphabet(1, []byte("abcdefghijklmnopqrstuvwxyz     "), 500)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		Append(nil, text)
	}
}
