package lockbox

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/rubyprocess"
)

// rubyBoxCase is a box for testdata/boxes.rb. Bytes are in base64.
type rubyBoxCase struct {
	Options        map[string]any `json:"options"`
	AssociatedData string         `json:"associated_data,omitempty"`
	Plaintext      []byte         `json:"plaintext"`
	Box            string         `json:"box"`

	box *Box
}

// A Ruby process opens the boxes of every algorithm that are made here, and what
// it seals is opened.
func TestRubyProcess(t *testing.T) {
	t.Parallel()
	cases := rubyBoxCases(t)
	input, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	out := rubyprocess.Run(t, []string{"lockbox", "rbnacl"}, bytes.NewReader(input), "testdata/boxes.rb")
	var sealed []string
	if err := json.Unmarshal(out, &sealed); err != nil || len(sealed) != len(cases) {
		t.Fatalf("Ruby sealed %d boxes of %d: %v", len(sealed), len(cases), err)
	}
	for i, c := range cases {
		if got, err := c.open(sealed[i]); err != nil || !bytes.Equal(got, c.Plaintext) {
			t.Errorf("%v: Open(what Ruby sealed) = %q, %v, want %q", c.Options, got, err, c.Plaintext)
		}
	}
}

func (c *rubyBoxCase) open(sealed string) ([]byte, error) {
	if c.Options["encode"] == true {
		return c.box.OpenText(nil, []byte(sealed), []byte(c.AssociatedData))
	}
	box, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		return nil, err
	}
	return c.box.Open(nil, box, []byte(c.AssociatedData))
}

// rubyBoxCases are boxes with all combinations of options.
func rubyBoxCases(t *testing.T) (cases []*rubyBoxCase) {
	t.Helper()
	for _, algorithm := range algorithms {
		for _, padding := range []int{0, 1, 16, 100} {
			for _, encode := range []bool{false, true} {
				for _, data := range []string{"", "Bücher"} {
					if data != "" && (algorithm == XSalsa20 || algorithm == Hybrid) {
						continue
					}
					for _, plaintext := range []string{"", "a", "sixteen bytes...", "\x80\x00\x00", "é\x00\xff"} {
						c := newRubyBoxCase(t, Options{Algorithm: algorithm, Padding: padding})
						c.Options["encode"], c.AssociatedData, c.Plaintext = encode, data, []byte(plaintext)
						cases = append(cases, c)
						c.seal(t, encode)
					}
				}
			}
		}
	}
	return cases
}

func newRubyBoxCase(t *testing.T, o Options) *rubyBoxCase {
	t.Helper()
	c := &rubyBoxCase{Options: map[string]any{"algorithm": o.Algorithm}}
	if o.Padding > 0 {
		c.Options["padding"] = o.Padding
	}
	var err error
	if o.Algorithm != Hybrid {
		c.Options["key"] = hex.EncodeToString(testKey(3))
		c.box, err = New(testKey(3), o)
	} else {
		encryption, decryption, keyErr := GenerateHybridKeys()
		if keyErr != nil {
			t.Fatal(keyErr)
		}
		c.Options["encryption_key"], c.Options["decryption_key"] = hex.EncodeToString(encryption), hex.EncodeToString(decryption)
		c.box, err = NewHybrid(encryption, decryption, o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *rubyBoxCase) seal(t *testing.T, encode bool) {
	t.Helper()
	seal := c.box.Seal
	if encode {
		seal = c.box.SealText
	}
	sealed, err := seal(nil, c.Plaintext, []byte(c.AssociatedData))
	if err != nil {
		t.Fatal(err)
	}
	if c.Box = string(sealed); !encode {
		c.Box = base64.StdEncoding.EncodeToString(sealed)
	}
}
