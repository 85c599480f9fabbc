package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// Customer is the record of the README's first program.
type Customer struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

const address = "ada@example.org"

// record is a row as the database stores it, and the key file that opens it.
type record struct {
	KeyFile         string `json:"keys.txt"` // protects nothing but this picture
	ID              int64  `json:"id"`
	EncryptedKMSKey string `json:"encrypted_kms_key"`
	EmailCiphertext string `json:"email_ciphertext"`
}

// part is a run of bytes of a column that belong together.
type part struct {
	kind    string // its colour
	name    string
	meaning string
	bytes   []byte
}

// envelope is what the picture shows.
type envelope struct {
	record
	email   string // the plaintext
	context string // the encryption context that the key service got
	dataKey []byte
	key     []part // of encrypted_kms_key
	column  []part // of email_ciphertext
}

// witness is a provider that notes what passes through it.
type witness struct {
	kmsencrypted.Provider
	context string
	dataKey []byte
}

func (w *witness) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	dataKey, err := w.Provider.Decrypt(ctx, ciphertext, ec)
	w.context, w.dataKey = string(ec.Bytes()), append([]byte(nil), dataKey...)
	return dataKey, err
}

func modelOf(provider kmsencrypted.Provider) (*field.Model[Customer], error) {
	box, err := kmsencrypted.NewBox(provider)
	if err != nil {
		return nil, err
	}
	return field.NewModel[Customer](box, field.Config{Table: "customers"})
}

// seal makes a record under a key of its own.
func seal(ctx context.Context) (record, error) {
	folder, err := os.MkdirTemp("", "envelope")
	if err != nil {
		return record{}, err
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "keys.txt")
	provider, err := local.Create(path)
	if err != nil {
		return record{}, err
	}
	customers, err := modelOf(provider)
	if err != nil {
		return record{}, err
	}
	c := Customer{ID: 1, Email: field.New(address)}
	if err := customers.Seal(ctx, &c); err != nil {
		return record{}, err
	}
	key, err := c.Key.Value()
	if err != nil {
		return record{}, err
	}
	email, err := c.Email.Value()
	if err != nil {
		return record{}, err
	}
	file, err := os.ReadFile(path)
	return record{KeyFile: string(file), ID: c.ID, EncryptedKMSKey: text(key), EmailCiphertext: text(email)}, err
}

func text(value any) string {
	if b, ok := value.([]byte); ok {
		return string(b)
	}
	return fmt.Sprint(value)
}

// dissect opens a record and cuts its columns into the parts that
// spec/native.md describes.
func dissect(ctx context.Context, r record) (envelope, error) {
	folder, err := os.MkdirTemp("", "envelope")
	if err != nil {
		return envelope{}, err
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "keys.txt")
	if err := os.WriteFile(path, []byte(r.KeyFile), 0o600); err != nil {
		return envelope{}, err
	}
	provider, err := local.Open(path)
	if err != nil {
		return envelope{}, err
	}
	w := &witness{Provider: provider}
	customers, err := modelOf(w)
	if err != nil {
		return envelope{}, err
	}
	c := Customer{ID: r.ID}
	if err := errors.Join(c.Key.Scan(r.EncryptedKMSKey), c.Email.Scan(r.EmailCiphertext)); err != nil {
		return envelope{}, err
	}
	if err := customers.Open(ctx, &c); err != nil {
		return envelope{}, err
	}
	e := envelope{record: r, email: c.Email.Must(), context: w.context, dataKey: w.dataKey}
	if e.key, err = keyParts(r.EncryptedKMSKey); err != nil {
		return envelope{}, err
	}
	e.column, err = columnParts(r.EmailCiphertext)
	return e, err
}

// keyParts cuts a key column with one wrap: section 3.2 of spec/native.md.
func keyParts(column string) ([]part, error) {
	_, body, _ := strings.Cut(column, ":")
	b, err := base64.StdEncoding.Strict().DecodeString(body)
	if err != nil {
		return nil, err
	}
	const tagSize = 1 + 32 + 1
	if len(b) < tagSize+1 || b[tagSize-1] != 1 {
		return nil, errors.New("the key column has not one wrap")
	}
	wrap := tagSize + 1 + int(b[tagSize])
	if len(b) < wrap+2 || len(b) != wrap+2+int(binary.BigEndian.Uint16(b[wrap:])) {
		return nil, errors.New("the key column is not as long as it says")
	}
	tag := string(b[tagSize+1 : wrap])
	return []part{
		{"format", "format", "a record’s data key", b[:1]},
		{"commitment", "commitment", "HMAC that ties the data key to table, column, id and context: no other row can use it", b[1 : tagSize-1]},
		{"size", "wraps", fmt.Sprintf("one wrap, by the service “%s”; with several, any one of them opens", tag), b[tagSize-1 : wrap]},
		{"wrapped", "wrapped data key", "as the key service returned it; only that service can unwrap it", b[wrap:]},
	}, nil
}

// columnParts cuts a sealed column: section 5.1 of spec/native.md.
func columnParts(column string) ([]part, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(column)
	if err != nil {
		return nil, err
	}
	const nonce, sealed, overhead = 1 + 8, 1 + 8 + 12, 1 + 8 + 12 + 16
	if len(b) < overhead {
		return nil, errors.New("the column is shorter than a ciphertext")
	}
	end := len(b) - 16
	return []part{
		{"format", "format", "a native column, not padded; no plaintext can begin with this byte", b[:1]},
		{"keytag", "key tag", "names the data key and proves nothing", b[1:nonce]},
		{"nonce", "nonce", "random, new for every write", b[nonce:sealed]},
		{"wrapped", "ciphertext", "AES-256-GCM under a key derived from the data key", b[sealed:end]},
		{"commitment", "authentication tag", "also covers table, column and type: a value put elsewhere does not open", b[end:]},
	}, nil
}
