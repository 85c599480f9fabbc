package lockbox

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// withNonce returns a copy of b that seals with one given nonce, which no user
// of the package can do.
func withNonce(t *testing.T, b *Box, key, nonce []byte) *Box {
	t.Helper()
	fixed := func(n []byte) { copy(n, nonce) }
	v := b.versions()[0]
	if c, ok := v.seal.(nonceInFront); ok {
		v.seal = nonceInFront{c.AEAD, fixed}
	} else {
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		v.seal = nonceInFront{gcm, fixed}
	}
	return &Box{hidden: secret.Hide([]version{v}), shortest: b.shortest}
}

// nonceSize is the size of the nonce in front of a box of b.
func nonceSize(b *Box) int {
	if c, ok := b.versions()[0].open.(nonceInFront); ok {
		return c.AEAD.NonceSize()
	}
	return 12
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// padding is Ruby's option: true, false or a size.
type padding struct {
	size int
	zero bool // a size of 0, which Ruby refuses and Options take for none
}

func (p *padding) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case "true":
		p.size = 16
	case "false":
	default:
		if err := json.Unmarshal(data, &p.size); err != nil {
			return err
		}
		p.zero = p.size == 0
	}
	return nil
}

func isTyped(err error) bool {
	for _, known := range []error{kmsencrypted.ErrConfig, kmsencrypted.ErrDecrypt, kmsencrypted.ErrMalformed, kmsencrypted.ErrNotCiphertext} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

func TestKeyVectors(t *testing.T) {
	t.Parallel()
	const file = "lockbox_keys.json"
	var v struct {
		AttributeKeys []struct {
			Table     vectors.Value    `json:"table"`
			Attribute vectors.Value    `json:"attribute"`
			MasterKey string           `json:"master_key"`
			Key       string           `json:"key"`
			Error     *vectors.Failure `json:"error"`
		} `json:"attribute_keys"`
		MasterKeys []struct {
			Name      string           `json:"name"`
			MasterKey vectors.Value    `json:"master_key"`
			Key       string           `json:"key"`
			Error     *vectors.Failure `json:"error"`
		} `json:"master_keys"`
		BoxKeys []struct {
			Name  string           `json:"name"`
			Key   vectors.Value    `json:"key"`
			OK    bool             `json:"ok"`
			Error *vectors.Failure `json:"error"`
		} `json:"box_keys"`
	}
	vectors.Load(t, file, &v)

	for _, c := range v.AttributeKeys {
		master, err := ParseMasterKey(c.MasterKey)
		if err != nil {
			t.Fatal(err)
		}
		key, err := master.AttributeKey(c.Table.Text, c.Attribute.Text)
		if c.Error != nil {
			if !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("AttributeKey(%q, %q) = %v, want ErrConfig", c.Table.Text, c.Attribute.Text, err)
			}
		} else if err != nil || hex.EncodeToString(key) != c.Key {
			t.Errorf("AttributeKey(%q, %q) = %x, %v, want %s", c.Table.Text, c.Attribute.Text, key, err, c.Key)
		}
	}

	// The file does not say for which of the names above: their keys tell.
	for _, c := range v.MasterKeys {
		master, err := ParseMasterKey(c.MasterKey.Text)
		if c.MasterKey.Kind == "bin" {
			master, err = NewMasterKey(c.MasterKey.Bytes)
		}
		if c.Error != nil {
			if !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("master key, %s: %v, want ErrConfig", c.Name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("master key, %s: %v", c.Name, err)
			continue
		}
		table, attribute := "users", "email_ciphertext"
		for _, known := range v.AttributeKeys {
			if known.Key == c.Key {
				table, attribute = known.Table.Text, known.Attribute.Text
			}
		}
		if key, err := master.AttributeKey(table, attribute); err != nil || hex.EncodeToString(key) != c.Key {
			t.Errorf("master key, %s: AttributeKey = %x, %v, want %s", c.Name, key, err, c.Key)
		}
	}

	for _, c := range v.BoxKeys {
		key, err := c.Key.Bytes, error(nil)
		if c.Key.Kind != "bin" {
			key, err = ParseKey(c.Key.Text)
		}
		if err == nil {
			_, err = New(key, Options{})
		}
		if c.OK != (err == nil) || err != nil && !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("box key, %s: %v, want ok %v", c.Name, err, c.OK)
		}
	}
	vectors.Ran(t, file, len(v.AttributeKeys)+len(v.MasterKeys)+len(v.BoxKeys))
}

func TestPaddingVectors(t *testing.T) {
	t.Parallel()
	const file = "lockbox_padding.json"
	var v struct {
		Pad []struct {
			Size   int    `json:"size"`
			Plain  []byte `json:"plain_b64"`
			Padded []byte `json:"padded_b64"`
		} `json:"pad"`
		Unpad []struct {
			Size   int              `json:"size"`
			Padded string           `json:"padded_hex"`
			Plain  string           `json:"plain_hex"`
			Error  *vectors.Failure `json:"error"`
		} `json:"unpad"`
	}
	vectors.Load(t, file, &v)
	for _, c := range v.Pad {
		if c.Size < 1 {
			t.Errorf("a padding of %d", c.Size)
			continue
		}
		if got := pad(nil, c.Plain, c.Size); !bytes.Equal(got, c.Padded) {
			t.Errorf("pad(%x, %d) = %x, want %x", c.Plain, c.Size, got, c.Padded)
		}
		if got, ok := unpad(c.Padded, c.Size); !ok || !bytes.Equal(got, c.Plain) {
			t.Errorf("unpad(%x, %d) = %x, %v, want %x", c.Padded, c.Size, got, ok, c.Plain)
		}
	}
	for _, c := range v.Unpad {
		if c.Size < 1 {
			t.Errorf("a padding of %d", c.Size)
			continue
		}
		got, ok := unpad(unhex(t, c.Padded), c.Size)
		if ok != (c.Error == nil) || hex.EncodeToString(got) != c.Plain {
			t.Errorf("unpad(%s, %d) = %x, %v, want %s", c.Padded, c.Size, got, ok, c.Plain)
		}
	}
	vectors.Ran(t, file, len(v.Pad)+len(v.Unpad))
}

// boxOptions are the options of a box as the files write them.
type boxOptions struct {
	Key              string        `json:"key"`
	EncryptionKey    string        `json:"encryption_key"`
	DecryptionKey    string        `json:"decryption_key"`
	Algorithm        Algorithm     `json:"algorithm"`
	Padding          padding       `json:"padding"`
	Encode           bool          `json:"encode"`
	AssociatedData   vectors.Value `json:"associated_data"`
	PreviousVersions []boxOptions  `json:"previous_versions"`
}

func (o boxOptions) associatedData() []byte {
	if o.AssociatedData.Kind == "bin" {
		return o.AssociatedData.Bytes
	}
	return []byte(o.AssociatedData.Text)
}

// box makes the box; previous versions without a key have the given one.
func (o boxOptions) box(t *testing.T, inherited string) (*Box, error) {
	t.Helper()
	if o.Key == "" && o.EncryptionKey == "" && o.DecryptionKey == "" {
		o.Key = inherited
	}
	options := Options{Algorithm: o.Algorithm, Padding: o.Padding.size}
	for _, p := range o.PreviousVersions {
		previous, err := p.box(t, o.Key)
		if err != nil {
			return nil, err
		}
		options.Previous = append(options.Previous, previous)
	}
	if o.EncryptionKey == "" && o.DecryptionKey == "" {
		key, err := ParseKey(o.Key)
		if err != nil {
			return nil, err
		}
		return New(key, options)
	}
	var keys [2][]byte
	for i, text := range []string{o.EncryptionKey, o.DecryptionKey} {
		if text != "" {
			var err error
			if keys[i], err = ParseHybridKey(text); err != nil {
				return nil, err
			}
		}
	}
	return NewHybrid(keys[0], keys[1], options)
}

func TestBoxVectors(t *testing.T) {
	t.Parallel()
	const file = "lockbox_box.json"
	var v struct {
		Cases []struct {
			boxOptions
			Name       string         `json:"name"`
			Plaintext  []byte         `json:"plaintext_b64"`
			Ciphertext vectors.Stored `json:"ciphertext"`
		} `json:"cases"`
		Decrypt []decryptCase `json:"decrypt"`
	}
	vectors.Load(t, file, &v)

	for _, c := range v.Cases {
		box, err := c.box(t, "")
		if err != nil {
			t.Errorf("%s, %s: %v", c.Algorithm, c.Name, err)
			continue
		}
		stored, ad := c.Ciphertext.Bytes, c.associatedData()
		open := box.Open
		sealed := stored
		if c.Encode {
			open = box.OpenText
			sealed = rubycompat.Decode64(string(stored))
		}
		if got, err := open(nil, stored, ad); err != nil || !bytes.Equal(got, c.Plaintext) {
			t.Errorf("%s, %s: Open = %q, %v, want %q", c.Algorithm, c.Name, got, err, c.Plaintext)
		}
		key, _ := hex.DecodeString(c.Key)
		fixed := withNonce(t, box, key, sealed[:nonceSize(box)])
		seal := fixed.Seal
		if c.Encode {
			seal = fixed.SealText
		}
		if got, err := seal(nil, c.Plaintext, ad); err != nil || !bytes.Equal(got, stored) {
			t.Errorf("%s, %s: Seal = %x, %v, want %x", c.Algorithm, c.Name, got, err, stored)
		}
		refusesChanges(t, box, sealed, ad)
	}

	for _, c := range v.Decrypt {
		got, err := c.attempt(t)
		if c.Error != nil {
			if !isTyped(err) {
				t.Errorf("%s, %s: %q, %v, want an error", c.Algorithm, c.Name, got, err)
			}
		} else if err != nil || !bytes.Equal(got, c.Plaintext) {
			t.Errorf("%s, %s: Open = %q, %v, want %q", c.Algorithm, c.Name, got, err, c.Plaintext)
		}
	}
	vectors.Ran(t, file, len(v.Cases)+len(v.Decrypt))
}

// decryptCase is a box to open or, without a ciphertext, a mistake that Ruby
// refuses. Of mistakes in the arguments of a call the file has the error alone.
type decryptCase struct {
	boxOptions
	Name       string           `json:"name"`
	Plaintext  []byte           `json:"plaintext_b64"`
	Ciphertext *vectors.Stored  `json:"ciphertext"`
	Error      *vectors.Failure `json:"error"`
}

// attempt does what Ruby was asked to do.
func (c decryptCase) attempt(t *testing.T) (plaintext []byte, err error) {
	t.Helper()
	someKey := make([]byte, KeySize)
	if c.Ciphertext == nil && c.Error != nil {
		switch {
		case c.Padding.zero:
			// Here zero is no padding, so that a size below it is the mistake.
			_, err = New(someKey, Options{Padding: -1})
			return nil, err
		case c.Error.Message == "Missing key":
			_, err = New(nil, Options{})
			return nil, err
		case strings.HasPrefix(c.Error.Message, "Cannot pass both key"):
			_, err = NewHybrid(make([]byte, HybridKeySize), nil, Options{Algorithm: AESGCM})
			return nil, err
		case c.Error.Class == "TypeError":
			// Seal takes bytes and nothing else; a string attribute refuses the rest.
			_, _, err = codecs["string"].append(nil, 1)
			return nil, err
		}
	}
	box, err := c.box(t, hex.EncodeToString(someKey))
	switch {
	case err != nil:
		return nil, err
	case c.Ciphertext == nil:
		return box.Seal(nil, []byte("secret"), []byte("associated data"))
	case c.Encode:
		return box.OpenText(nil, c.Ciphertext.Bytes, c.associatedData())
	}
	return box.Open(nil, c.Ciphertext.Bytes, c.associatedData())
}

// refusesChanges flips a bit of every byte, cuts the box at every place and
// changes the associated data: none of it may open.
func refusesChanges(t *testing.T, box *Box, sealed, associatedData []byte) {
	t.Helper()
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1 << (i % 8)
		if got, err := box.Open(nil, changed, associatedData); !errors.Is(err, kmsencrypted.ErrDecrypt) {
			t.Errorf("Open(bit flipped in byte %d) = %q, %v, want ErrDecrypt", i, got, err)
		}
		if got, err := box.Open(nil, sealed[:i], associatedData); !errors.Is(err, kmsencrypted.ErrDecrypt) && !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("Open(cut to %d bytes) = %q, %v, want an error", i, got, err)
		}
	}
	if got, err := box.Open(nil, sealed, append([]byte("x"), associatedData...)); !isTyped(err) {
		t.Errorf("Open(other associated data) = %q, %v, want an error", got, err)
	}
}

func TestModelVectors(t *testing.T) {
	t.Parallel()
	const file = "lockbox_model.json"
	var v struct {
		MasterKey string `json:"master_key"`
		Cases     []struct {
			Name           string           `json:"name"`
			Column         vectors.Stored   `json:"column"`
			Key            string           `json:"key"`
			Encode         *bool            `json:"encode"`
			KeyTable       string           `json:"key_table"`
			KeyAttribute   string           `json:"key_attribute"`
			Algorithm      Algorithm        `json:"algorithm"`
			Padding        padding          `json:"padding"`
			AssociatedData string           `json:"associated_data"`
			Plaintext      string           `json:"plaintext"`
			Error          *vectors.Failure `json:"error"`
		} `json:"cases"`
	}
	vectors.Load(t, file, &v)
	master, err := ParseMasterKey(v.MasterKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range v.Cases {
		key := unhex(t, c.Key)
		if c.KeyTable != "" {
			if derived, err := master.AttributeKey(c.KeyTable, c.KeyAttribute); err != nil || !bytes.Equal(derived, key) {
				t.Errorf("%s: AttributeKey = %x, %v, want %s", c.Name, derived, err, c.Key)
			}
		}
		sealing, err := New(key, Options{Algorithm: c.Algorithm, Padding: c.Padding.size})
		if err != nil {
			t.Fatal(err)
		}
		// As a previous version of another key it must open as well.
		current, err := New(make([]byte, KeySize), Options{Previous: []*Box{sealing}})
		if err != nil {
			t.Fatal(err)
		}
		for _, box := range []*Box{sealing, current} {
			column := Column{Box: box, Binary: c.Encode != nil && !*c.Encode}
			got, err := column.Open(nil, c.Column.Bytes, []byte(c.AssociatedData))
			if c.Error != nil {
				if !errors.Is(err, kmsencrypted.ErrDecrypt) {
					t.Errorf("%s: Open = %q, %v, want ErrDecrypt", c.Name, got, err)
				}
			} else if err != nil || string(got) != c.Plaintext {
				t.Errorf("%s: Open = %q, %v, want %q", c.Name, got, err, c.Plaintext)
			}
		}
		if c.Error != nil {
			continue
		}
		raw := c.Column.Bytes
		column := Column{Binary: c.Encode != nil && !*c.Encode}
		if !column.Binary {
			raw = rubycompat.Decode64(string(raw))
		}
		if len(raw) < nonceSize(sealing) {
			t.Errorf("%s: a column without a nonce", c.Name)
			continue
		}
		column.Box = withNonce(t, sealing, key, raw[:nonceSize(sealing)])
		if got, err := column.Seal(nil, []byte(c.Plaintext), []byte(c.AssociatedData)); err != nil || !bytes.Equal(got, c.Column.Bytes) {
			t.Errorf("%s: Seal = %q, %v, want %q", c.Name, got, err, c.Column.Bytes)
		}
	}
	vectors.Ran(t, file, len(v.Cases))
}

func TestFileVectors(t *testing.T) {
	t.Parallel()
	const file = "lockbox_files.json"
	var v struct {
		MasterKey string `json:"lockbox_master_key"`
		Cases     []struct {
			Kind           string        `json:"kind"`
			Table          string        `json:"table"`
			Attribute      string        `json:"attribute"`
			Key            string        `json:"key"`
			KeyFrom        string        `json:"key_from"`
			Algorithm      Algorithm     `json:"algorithm"`
			Padding        padding       `json:"padding"`
			AssociatedData vectors.Value `json:"associated_data"`
			Plaintext      []byte        `json:"plaintext_b64"`
			Stored         []byte        `json:"stored_b64"`
		} `json:"cases"`
	}
	vectors.Load(t, file, &v)
	master, err := ParseMasterKey(v.MasterKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range v.Cases {
		name := c.Kind + " " + c.Attribute
		key := unhex(t, c.Key)
		if c.KeyFrom == "master key" {
			if derived, err := master.AttributeKey(c.Table, c.Attribute); err != nil || !bytes.Equal(derived, key) {
				t.Errorf("%s: AttributeKey = %x, %v, want %s", name, derived, err, c.Key)
			}
		}
		box, err := New(key, Options{Algorithm: c.Algorithm, Padding: c.Padding.size})
		if err != nil {
			t.Fatal(err)
		}
		ad := []byte(c.AssociatedData.Text)
		if got, err := box.Open(nil, c.Stored, ad); err != nil || !bytes.Equal(got, c.Plaintext) {
			t.Errorf("%s: Open = %q, %v, want %q", name, got, err, c.Plaintext)
		}
		fixed := withNonce(t, box, key, c.Stored[:nonceSize(box)])
		if got, err := fixed.Seal(nil, c.Plaintext, ad); err != nil || !bytes.Equal(got, c.Stored) {
			t.Errorf("%s: Seal = %x, %v, want %x", name, got, err, c.Stored)
		}
		refusesChanges(t, box, c.Stored, ad)
	}
	vectors.Ran(t, file, len(v.Cases))
}

// The Lockbox columns of whole rows, sealed again with their own nonces.
func TestModelRowColumnVectors(t *testing.T) {
	t.Parallel()
	const file = "model_rows.json"
	var v struct {
		MasterKey string `json:"lockbox_master_key"`
		Rows      []struct {
			Step     string                    `json:"step"`
			Table    string                    `json:"table"`
			Columns  map[string]vectors.Stored `json:"columns"`
			DataKeys map[string]string         `json:"data_keys"`
		} `json:"rows"`
	}
	vectors.Load(t, file, &v)
	master, err := ParseMasterKey(v.MasterKey)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, row := range v.Rows {
		if len(row.DataKeys) == 0 { // a row that cannot be read
			continue
		}
		for name, stored := range row.Columns {
			if !strings.HasSuffix(name, "_ciphertext") || len(stored.Bytes) == 0 {
				continue
			}
			key, o := unhex(t, row.DataKeys["kms_key"]), Options{}
			switch name {
			case "phone_ciphertext":
				key = unhex(t, row.DataKeys["kms_key_phone"])
			case "note_ciphertext":
				key, err = master.AttributeKey(row.Table, name)
			case "status_ciphertext":
				o.Padding = 16
			}
			if err != nil {
				t.Fatal(err)
			}
			box, err := New(key, o)
			if err != nil {
				t.Fatal(err)
			}
			plaintext, err := Column{Box: box}.Open(nil, stored.Bytes, nil)
			if err != nil {
				t.Errorf("%s, %s: Open = %v", row.Step, name, err)
				continue
			}
			nonce := rubycompat.Decode64(string(stored.Bytes))[:nonceSize(box)]
			again, err := Column{Box: withNonce(t, box, key, nonce)}.Seal(nil, plaintext, nil)
			if err != nil || !bytes.Equal(again, stored.Bytes) {
				t.Errorf("%s, %s: Seal = %q, %v, want %q", row.Step, name, again, err, stored.Bytes)
			}
			checked++
		}
	}
	vectors.Ran(t, file, checked)
}
