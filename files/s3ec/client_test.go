package s3ec

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fails(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s = %v, want %v", what, err, want)
	}
}

var testRSA = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// testKeys returns a key of every kind.
func testKeys(t testing.TB) map[string]Key {
	t.Helper()
	provider, err := local.Create(t.TempDir() + "/keys.txt")
	must(t, err)
	static, err := AES(bytes.Repeat([]byte{7}, 32), map[string]string{"key": "2026"})
	must(t, err)
	pair, err := RSA(nil, testRSA(), nil)
	must(t, err)
	return map[string]Key{"kms": KMS(provider), "aes": static, "rsa": pair}
}

func newClient(t testing.TB, m *memory, o Options) *Client {
	t.Helper()
	c, err := New(m, o)
	must(t, err)
	return c
}

// pattern is a file without repetition.
func pattern(n int) []byte {
	out := make([]byte, n)
	x := uint32(n) + 1
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

// source hides every method but Read.
type source struct{ io.Reader }

// Every kind of key, format, placement and size: written, read whole and in random parts,
// and closed to others. A small object is opened with one request, plus one for an
// instruction object.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	random := mathrand.New(mathrand.NewPCG(1, 2))
	ran := 0
	for name, key := range testKeys(t) {
		for _, format := range []Format{V2, V3} {
			for _, instruction := range []bool{false, true} {
				for _, size := range []int{0, 1, 16, 1000, segmentSize - 1, segmentSize, segmentSize + 1, keepSize - tagSize, keepSize, keepSize + 100_001} {
					m := newMemory()
					c := newClient(t, m, Options{Keys: []Key{key}, Format: format, Instruction: instruction})
					what := fmt.Sprintf("%s %v instruction=%v %d bytes", name, format, instruction, size)
					var context map[string]string
					if name == "kms" && size%2 == 0 {
						context = map[string]string{"tenant": "7", "Büro": "Köln 🔑"}
					}
					plaintext := pattern(size)
					announced := int64(size)
					if size%3 == 0 {
						announced = -1
					}
					_, err := c.Put(t.Context(), "file", source{bytes.NewReader(plaintext)}, announced, PutOptions{Context: context, Metadata: map[string]string{"owner": "ada"}, Headers: Headers{ContentType: "text/plain"}})
					if err != nil {
						t.Fatalf("%s: Put = %v", what, err)
					}
					stored := m.objects["file"]
					if len(stored.data) != size+tagSize || size >= 16 && bytes.Contains(stored.data, plaintext[:16]) {
						t.Errorf("%s: the store has %d bytes, want %d that cannot be read", what, len(stored.data), size+tagSize)
					}
					if _, ok := m.objects["file.instruction"]; ok != instruction {
						t.Errorf("%s: instruction object = %v", what, ok)
					}
					r, err := c.Open(t.Context(), "file", OpenOptions{Context: context})
					if err != nil {
						t.Fatalf("%s: Open = %v", what, err)
					}
					if info := r.Info(); info.Metadata["owner"] != "ada" || len(info.Metadata) != 1 || info.Headers.ContentType != "text/plain" || info.Format != format {
						t.Errorf("%s: Info = %+v", what, info)
					}
					readsAs(t, what, r, plaintext, random)
					if want := map[bool]int{false: 1, true: 2}[instruction]; size <= keepSize-tagSize && len(m.gets) != want {
						t.Errorf("%s: %d requests, want %d", what, len(m.gets), want)
					}
					if name == "kms" {
						_, err := c.Open(t.Context(), "file", OpenOptions{Context: map[string]string{"tenant": "8"}})
						fails(t, what+": Open with another context", err, kmsencrypted.ErrBinding)
					} else {
						_, err := c.Open(t.Context(), "file", OpenOptions{Context: map[string]string{"tenant": "8"}})
						fails(t, what+": Open with a context", err, kmsencrypted.ErrConfig)
					}
					must(t, c.Delete(t.Context(), "file"))
					if len(m.objects) > 0 {
						t.Errorf("%s: Delete left %d objects", what, len(m.objects))
					}
					_, err = c.Open(t.Context(), "file", OpenOptions{})
					fails(t, what+": Open after Delete", err, fs.ErrNotExist)
					ran++
				}
			}
		}
	}
	t.Logf("%d round trips", ran)
}

func readsAs(t *testing.T, what string, r *Reader, want []byte, random *mathrand.Rand) {
	t.Helper()
	if r.Size() != int64(len(want)) {
		t.Errorf("%s: Size = %d, want %d", what, r.Size(), len(want))
	}
	for range 8 {
		from := random.IntN(len(want) + 1)
		got := make([]byte, random.IntN(len(want)-from+1)+1)
		n, err := r.ReadAt(got, int64(from))
		end := min(from+len(got), len(want))
		if n != end-from || !bytes.Equal(got[:n], want[from:end]) || (err == io.EOF) != (n < len(got)) {
			t.Errorf("%s: ReadAt(%d bytes at %d) = %d, %v", what, len(got), from, n, err)
		}
	}
	var whole bytes.Buffer
	if n, err := r.WriteTo(&whole); err != nil || n != int64(len(want)) || !bytes.Equal(whole.Bytes(), want) {
		t.Errorf("%s: WriteTo = %d, %v", what, n, err)
	}
	must(t, r.Close())
	if _, err := r.ReadAt(make([]byte, 1), 0); len(want) > 0 && !errors.Is(err, fs.ErrClosed) {
		t.Errorf("%s: ReadAt after Close = %v, want ErrClosed", what, err)
	}
}

// Two uploads of the same file share neither key nor bytes.
func TestNothingRepeats(t *testing.T) {
	t.Parallel()
	for name, key := range testKeys(t) {
		for _, format := range []Format{V2, V3} {
			m := newMemory()
			c := newClient(t, m, Options{Keys: []Key{key}, Format: format})
			for _, object := range []string{"a", "b"} {
				_, err := c.Put(t.Context(), object, bytes.NewReader(pattern(1000)), 1000, PutOptions{})
				must(t, err)
			}
			a, b := m.objects["a"], m.objects["b"]
			for i := range len(a.data) - 16 {
				if bytes.Contains(b.data, a.data[i:i+16]) {
					t.Fatalf("%s %v: two uploads share ciphertext", name, format)
				}
			}
			for _, field := range []string{nameV2Key, nameIV, nameV3Key, nameV3Message, nameV3Commit} {
				if v := a.upload.Metadata[field]; v != "" && v == b.upload.Metadata[field] {
					t.Errorf("%s %v: two uploads share %s", name, format, field)
				}
			}
		}
	}
}

// An old key opens what it wrapped after a new one was put before it.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	for name, old := range testKeys(t) {
		m := newMemory()
		_, err := newClient(t, m, Options{Keys: []Key{old}}).Put(t.Context(), "f", bytes.NewReader(pattern(99)), 99, PutOptions{})
		must(t, err)
		next := testKeys(t)[name] // only that of the key service is another one
		if name == "aes" {
			next, err = ParseAES("base64:"+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{8}, 32)), nil)
			must(t, err)
		}
		if name == "rsa" {
			other, err := rsa.GenerateKey(rand.Reader, 2048)
			must(t, err)
			next, err = RSA(nil, other, map[string]string{"key": "new"})
			must(t, err)
		}
		r, err := newClient(t, m, Options{Keys: []Key{next, old}}).Open(t.Context(), "f", OpenOptions{})
		if err != nil {
			t.Errorf("%s: Open under both keys = %v", name, err)
			continue
		}
		r.Close()
		_, err = newClient(t, m, Options{Keys: []Key{next}}).Open(t.Context(), "f", OpenOptions{})
		fails(t, name+": Open under the new key alone", err, kmsencrypted.ErrDecrypt)
	}
}

// An object that somebody replaces between the check and a read is never mixed with the
// one that was checked, whether the store notices or not.
func TestReplaced(t *testing.T) {
	t.Parallel()
	const size = 8 * segmentSize
	for _, honest := range []bool{true, false} {
		m := newMemory()
		c := newClient(t, m, Options{Keys: []Key{testKeys(t)["aes"]}})
		for _, object := range []string{"f", "g"} {
			_, err := c.Put(t.Context(), object, bytes.NewReader(pattern(size)), size, PutOptions{})
			must(t, err)
		}
		r, err := c.Open(t.Context(), "f", OpenOptions{})
		must(t, err)
		other := m.objects["g"]
		if !honest {
			other.version = m.objects["f"].version
		}
		m.objects["f"] = other
		for _, at := range []int64{0, 3*segmentSize + 5} {
			p := make([]byte, 10)
			n, err := r.ReadAt(p, at)
			if n != 0 || !errors.Is(err, kmsencrypted.ErrDecrypt) {
				t.Errorf("honest=%v: ReadAt(%d) = %d, %v, want ErrDecrypt", honest, at, n, err)
			}
		}
		var out bytes.Buffer
		_, err = r.WriteTo(&out)
		fails(t, "WriteTo", err, kmsencrypted.ErrDecrypt)
		if out.Len() > 0 {
			t.Errorf("honest=%v: WriteTo wrote %d bytes of another object", honest, out.Len())
		}
		delete(m.objects, "f")
		_, err = r.ReadAt(make([]byte, 1), 0)
		fails(t, "ReadAt of a deleted object", err, kmsencrypted.ErrDecrypt)
	}
}

// A transfer that breaks is resumed where it broke; one that gives nothing fails.
func TestResume(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset")
	const size = 8 * segmentSize
	m := newMemory()
	c := newClient(t, m, Options{Keys: []Key{testKeys(t)["aes"]}})
	_, err := c.Put(t.Context(), "f", bytes.NewReader(pattern(size)), size, PutOptions{})
	must(t, err)
	m.body = func(_ string, body io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(body, 300_000), iotest.ErrReader(broken))
	}
	r, err := c.Open(t.Context(), "f", OpenOptions{})
	must(t, err)
	readsAs(t, "broken transfers", r, pattern(size), mathrand.New(mathrand.NewPCG(3, 4)))
	m.body = func(string, io.Reader) io.Reader { return iotest.ErrReader(broken) }
	_, err = c.Open(t.Context(), "f", OpenOptions{})
	fails(t, "Open without a byte", err, broken)
	m.body = func(_ string, body io.Reader) io.Reader { return io.LimitReader(body, 0) }
	_, err = c.Open(t.Context(), "f", OpenOptions{})
	fails(t, "Open of a body that is too short", err, io.ErrUnexpectedEOF)
}

// Sequential reads take few requests, which grow.
func TestRequests(t *testing.T) {
	t.Parallel()
	const size = 100*segmentSize + 5
	m := newMemory()
	c := newClient(t, m, Options{Keys: []Key{testKeys(t)["aes"]}})
	_, err := c.Put(t.Context(), "f", bytes.NewReader(pattern(size)), size, PutOptions{})
	must(t, err)
	r, err := c.Open(t.Context(), "f", OpenOptions{})
	must(t, err)
	m.gets = nil
	if _, err := io.Copy(io.Discard, io.NewSectionReader(r, 0, size)); err != nil || len(m.gets) > 8 {
		t.Errorf("reading in order: %v, %d requests, want at most 8", err, len(m.gets))
	}
	m.gets = nil
	if _, err := r.WriteTo(io.Discard); err != nil || len(m.gets) != 1 {
		t.Errorf("WriteTo: %v, %d requests, want 1", err, len(m.gets))
	}
	m.gets = nil
	_, err = r.ReadAt(make([]byte, 100), 50*segmentSize-50)
	must(t, err)
	for _, get := range m.gets {
		if get.Length > 2*segmentSize || get.Version == (Version{}) {
			t.Errorf("a small read asks for %+v", get)
		}
	}
}

// hostile are instruction objects of which each must be refused.
func hostile(good string) map[string]string {
	return map[string]string{
		"empty":           "",
		"not JSON":        "<xml/>",
		"a list":          "[" + good + "]",
		"null":            "null",
		"null inside":     strings.Replace(good, `"128"`, "null", 1),
		"nested":          strings.Replace(good, `"128"`, `{"a":"b"}`, 1),
		"trailing":        good + " {}",
		"cut":             good[:len(good)-1],
		"twice":           strings.Replace(good, `"x-amz-tag-len"`, `"x-amz-wrap-alg":"AES/GCM","x-amz-tag-len"`, 1),
		"1 MiB of spaces": good + strings.Repeat(" ", 1<<20),
		"1 MiB of JSON":   strings.Replace(good, "{", `{"x":"`+strings.Repeat("a", 1<<20)+`",`, 1),
		"deep":            strings.Repeat(`{"a":`, 1<<15),
		"not UTF-8":       strings.Replace(good, "{", "{\"x\":\"\xff\",", 1),
		"V3 beside":       strings.Replace(good, "{", `{"x-amz-3":"AAAA",`, 1),
		"V1 beside":       strings.Replace(good, "{", `{"x-amz-key":"AAAA",`, 1),
		"the commitment":  strings.Replace(good, "{", `{"x-amz-d":"AAAA",`, 1),
		"two lines":       strings.Replace(good, `"x-amz-key-v2":"`, `"x-amz-key-v2":"\n`, 1),
		"a tag of 96":     strings.Replace(good, `"128"`, `96`, 1),
	}
}

func TestHostileInstruction(t *testing.T) {
	t.Parallel()
	m := newMemory()
	c := newClient(t, m, Options{Keys: []Key{testKeys(t)["aes"]}, Instruction: true})
	_, err := c.Put(t.Context(), "f", bytes.NewReader(pattern(10)), 10, PutOptions{})
	must(t, err)
	good := string(m.objects["f.instruction"].data)
	for name, text := range hostile(good) {
		m.objects["f.instruction"] = stored{data: []byte(text)}
		if text == good {
			t.Errorf("%s: nothing changed", name)
		}
		_, err := c.Open(t.Context(), "f", OpenOptions{})
		fails(t, name, err, kmsencrypted.ErrMalformed)
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
	delete(m.objects, "f.instruction")
	_, err = c.Open(t.Context(), "f", OpenOptions{})
	fails(t, "no instruction object", err, kmsencrypted.ErrNotCiphertext)
	outage := errors.New("outage")
	m.onGet = func(key string, _ Range) error {
		if key == "f.instruction" {
			return outage
		}
		return nil
	}
	_, err = c.Open(t.Context(), "f", OpenOptions{})
	fails(t, "outage", err, outage)
	m.onGet = nil
	// Go's client writes the length of the tag as a number.
	m.objects["f.instruction"] = stored{data: []byte(strings.Replace(good, `"128"`, `128`, 1))}
	r, err := c.Open(t.Context(), "f", OpenOptions{})
	must(t, err)
	r.Close()
}

// A failed upload leaves nothing, and an instruction object is never replaced: the object
// that belongs to it would become unreadable.
func TestPutRefuses(t *testing.T) {
	t.Parallel()
	keys := testKeys(t)
	broken := errors.New("broken")
	public, err := RSA(&testRSA().PublicKey, nil, nil)
	must(t, err)
	long := map[string]string{"tenant": strings.Repeat("x", 2000)}
	for _, instruction := range []bool{false, true} {
		m := newMemory()
		put := func(key Key, name string, src io.Reader, size int64, o PutOptions) error {
			_, err := newClient(t, m, Options{Keys: []Key{key}, Instruction: instruction}).Put(t.Context(), name, src, size, o)
			return err
		}
		large := kmsencrypted.ErrTooLarge
		if instruction {
			large = nil
		}
		for what, c := range map[string]struct{ err, want error }{
			"too short":              {put(keys["aes"], "a", strings.NewReader("abc"), 4, PutOptions{}), ErrSize},
			"too long":               {put(keys["aes"], "b", strings.NewReader("abc"), 2, PutOptions{}), ErrSize},
			"too long, a segment":    {put(keys["aes"], "c", bytes.NewReader(make([]byte, 1<<20)), segmentSize, PutOptions{}), ErrSize},
			"a failing source":       {put(keys["aes"], "d", iotest.ErrReader(broken), -1, PutOptions{}), broken},
			"64 GiB":                 {put(keys["aes"], "e", strings.NewReader(""), 1<<36, PutOptions{}), kmsencrypted.ErrTooLarge},
			"negative":               {put(keys["aes"], "f", strings.NewReader(""), -2, PutOptions{}), kmsencrypted.ErrConfig},
			"no source":              {put(keys["aes"], "g", nil, 0, PutOptions{}), kmsencrypted.ErrConfig},
			"no name":                {put(keys["aes"], "", strings.NewReader(""), 0, PutOptions{}), fs.ErrInvalid},
			"an instruction's name":  {put(keys["aes"], "h.instruction", strings.NewReader(""), 0, PutOptions{}), fs.ErrInvalid},
			"context of a raw key":   {put(keys["rsa"], "i", strings.NewReader(""), 0, PutOptions{Context: long}), kmsencrypted.ErrConfig},
			"reserved entry":         {put(keys["kms"], "j", strings.NewReader(""), 0, PutOptions{Context: map[string]string{reservedEntry: gcmName}}), kmsencrypted.ErrContext},
			"reserved metadata":      {put(keys["aes"], "k", strings.NewReader(""), 0, PutOptions{Metadata: map[string]string{"X-Amz-Iv": "x"}}), kmsencrypted.ErrConfig},
			"long context":           {put(keys["kms"], "l", strings.NewReader(""), 0, PutOptions{Context: long}), large},
			"context is not UTF-8":   {put(keys["kms"], "m", strings.NewReader(""), 0, PutOptions{Context: map[string]string{"a": "\xff"}}), kmsencrypted.ErrContext},
			"long metadata":          {put(keys["aes"], "n", strings.NewReader(""), 0, PutOptions{Metadata: map[string]string{"note": strings.Repeat("x", 2048)}}), kmsencrypted.ErrTooLarge},
			"public key alone works": {put(public, "o", strings.NewReader(""), 0, PutOptions{}), nil},
		} {
			if !errors.Is(c.err, c.want) || c.want == nil && c.err != nil {
				t.Errorf("%s, instruction=%v: %v, want %v", what, instruction, c.err, c.want)
			}
		}
		for name := range m.objects {
			if name[0] != 'o' && (name[0] != 'l' || !instruction) {
				t.Errorf("instruction=%v: a refused upload left %q", instruction, name)
			}
		}
		_, err := newClient(t, m, Options{Keys: []Key{public}}).Open(t.Context(), "o", OpenOptions{})
		fails(t, "Open with the public key", err, kmsencrypted.ErrKeyUnusable)
		err = put(keys["aes"], "o", strings.NewReader("new"), 3, PutOptions{})
		if instruction {
			fails(t, "Put over an object with an instruction object", err, fs.ErrExist)
		} else {
			must(t, err)
		}
		fails(t, "Put with IfNotExist", put(keys["aes"], "o", strings.NewReader("new"), 3, PutOptions{IfNotExist: true}), fs.ErrExist)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	m := newMemory()
	c := newClient(t, m, Options{Keys: []Key{keys["aes"]}})
	_, err = c.Put(canceled, "a", strings.NewReader(""), 0, PutOptions{})
	fails(t, "Put, canceled", err, context.Canceled)
	if len(m.objects) > 0 {
		t.Errorf("a canceled upload left %d objects", len(m.objects))
	}
}

// Two readers share nothing that is not locked.
func TestConcurrentReads(t *testing.T) {
	t.Parallel()
	const size = 6*segmentSize + 7
	m := newMemory()
	c := newClient(t, m, Options{Keys: []Key{testKeys(t)["kms"]}})
	_, err := c.Put(t.Context(), "f", bytes.NewReader(pattern(size)), size, PutOptions{})
	must(t, err)
	r, err := c.Open(t.Context(), "f", OpenOptions{})
	must(t, err)
	want := pattern(size)
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			random := mathrand.New(mathrand.NewPCG(5, uint64(worker)))
			for range 50 {
				from := random.IntN(size - 100)
				p := make([]byte, 100)
				if _, err := r.ReadAt(p, int64(from)); err != nil || !bytes.Equal(p, want[from:from+100]) {
					t.Errorf("ReadAt(%d) = %v", from, err)
				}
			}
		})
	}
	all.Wait()
}

// ignoring is a key that does not check the encryption context.
type ignoring struct{ kmsencrypted.Provider }

func (ignoring) Info() kmsencrypted.KeyInfo { return kmsencrypted.KeyInfo{IgnoresContext: true} }

func TestConfig(t *testing.T) {
	t.Parallel()
	static, err := AES(make([]byte, 16), nil)
	must(t, err)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	parse := func(_ Key, err error) func() error { return func() error { return err } }
	create := func(store Store, o Options) func() error {
		return func() error { _, err := New(store, o); return err }
	}
	zerotest.Methods(t, new(Client))
	zerotest.Methods(t, (*Client)(nil))
	zerotest.Methods(t, new(Reader))
	zerotest.Methods(t, (*Reader)(nil))
	zerotest.Calls(t, map[string]func() error{
		"no store":            create(nil, Options{Keys: []Key{static}}),
		"no key":              create(newMemory(), Options{}),
		"nil key":             create(newMemory(), Options{Keys: []Key{static, nil}}),
		"nil provider":        create(newMemory(), Options{Keys: []Key{KMS(nil)}}),
		"zero provider":       create(newMemory(), Options{Keys: []Key{KMS(new(local.Provider))}}),
		"context ignored":     create(newMemory(), Options{Keys: []Key{KMS(ignoring{})}}),
		"V1":                  create(newMemory(), Options{Keys: []Key{static}, Format: V1}),
		"V4":                  create(newMemory(), Options{Keys: []Key{static}, Format: 4}),
		"static key of 31":    parse(AES(make([]byte, 31), nil)),
		"text of 16":          parse(ParseAES(strings.Repeat("x", 16), nil)),
		"base64 of 16":        parse(ParseAES("base64:"+base64.StdEncoding.EncodeToString(make([]byte, 16)), nil)),
		"not base64":          parse(ParseAES("base64:?", nil)),
		"no RSA key":          parse(RSA(nil, nil, nil)),
		"short RSA key":       parse(RSA(nil, short, nil)),
		"RSA keys of two":     parse(RSA(&short.PublicKey, testRSA(), nil)),
		"no PEM":              parse(ParseRSA([]byte("secret"), nil)),
		"PEM of another kind": parse(ParseRSA(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), nil)),
		"damaged PEM":         parse(ParseRSA(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), nil)),
	})
	for name, block := range map[string]*pem.Block{
		"PKCS #1": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(testRSA())},
		"PKCS #8": {Type: "PRIVATE KEY", Bytes: first(x509.MarshalPKCS8PrivateKey(testRSA()))},
		"PKIX":    {Type: "PUBLIC KEY", Bytes: first(x509.MarshalPKIXPublicKey(&testRSA().PublicKey))},
		"public":  {Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&testRSA().PublicKey)},
	} {
		if _, err := ParseRSA(pem.EncodeToMemory(block), nil); err != nil {
			t.Errorf("ParseRSA of %s = %v", name, err)
		}
	}
}

func first(der []byte, _ error) []byte { return der }

// Keys print nothing.
func TestRedacted(t *testing.T) {
	t.Parallel()
	private := testRSA().D.String()
	for name, key := range testKeys(t) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			for _, v := range []any{key, Options{Keys: []Key{key}}} {
				text := fmt.Sprintf(verb, v)
				if strings.Contains(text, private[:20]) || strings.Contains(text, "7 7 7 7") || strings.Contains(text, "07070707") || strings.Contains(text, "0x7, 0x7") {
					t.Errorf("%s prints under %s", name, verb)
				}
			}
		}
	}
}
