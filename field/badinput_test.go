package field_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// What no error may hold: a plaintext, the bytes of a key, and what lies in a
// column in their place.
var badSecrets = []string{"ada@example.org", "half of a key...", "lovelace", base64.StdEncoding.EncodeToString([]byte("half of a key..."))}

// badRow is a record that was sealed and read again, to be spoilt by a case.
type badRow struct {
	*failing
	version kmsencrypted.Version
	context kmsencrypted.Context
	model   *field.Model[customer]
	customer
}

// failing is a provider that fails, or gives other bytes.
type failing struct {
	kmsencrypted.Provider
	err   error
	bytes []byte
}

func (f *failing) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if f.err != nil || f.bytes != nil {
		return f.bytes, f.err
	}
	return f.Provider.Encrypt(ctx, plaintext, ec)
}

func (f *failing) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if f.err != nil || f.bytes != nil {
		return bytes.Clone(f.bytes), f.err
	}
	return f.Provider.Decrypt(ctx, ciphertext, ec)
}

func newBadRow(t *testing.T, recordSeal bool) *badRow {
	t.Helper()
	b := &badRow{failing: &failing{Provider: kmstest.Memory()}, context: kmsencrypted.Context{"customer": 7}}
	b.version = kmsencrypted.Version{Provider: b.failing, RecordSeal: recordSeal, Context: func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return b.context, nil
	}}
	b.model = newModel[customer](t, nativeBox(t, b.version), field.Config{Table: "customers"})
	b.customer = reload(t, sealedCustomer(t, b.model, 7, "ada@example.org"))
	return b
}

func (b *badRow) open(t *testing.T) error { return b.model.Open(t.Context(), &b.customer) }
func (b *badRow) seal(t *testing.T) error { return b.model.Seal(t.Context(), &b.customer) }

// sealNew seals the record as a new one.
func (b *badRow) sealNew(t *testing.T) error {
	b.customer = customer{ID: 7, Email: field.New("ada@example.org")}
	return b.seal(t)
}

// openWith opens the record with another text in its column of e-mails.
func (b *badRow) openWith(t *testing.T, change func(string) string) error {
	must(t, b.Email.Scan(change(column(t, b.Email).(string))))
	return b.open(t)
}

// openUnder opens the record with another text in its key column.
func (b *badRow) openUnder(t *testing.T, change func(string) string) error {
	must(t, b.Key.Scan(change(column(t, b.Key).(string))))
	return b.open(t)
}

// instead gives the same text whatever was there.
func instead(text string) func(string) string { return func(string) string { return text } }

// urlBase64 is the text of a column in the other alphabet.
func urlBase64(text string) string { return strings.NewReplacer("+", "-", "/", "_").Replace(text) }

// TestBadInput gives a record every input that is none. Each is refused with its
// documented error, which names record, column and operation and nothing else
// that was in the record, and the record is as it was.
func TestBadInput(t *testing.T) {
	t.Parallel()
	const key, email = "column encrypted_kms_key", "column email_ciphertext"
	for name, c := range map[string]struct {
		run        func(*testing.T, *badRow) error
		want       error
		op, column string
		retryable  bool
		recordSeal bool
	}{
		"missing version": {want: kmsencrypted.ErrMalformed, op: "open", column: key, run: func(t *testing.T, b *badRow) error {
			return b.openUnder(t, func(text string) string { return strings.TrimPrefix(text, "v1:") })
		}},
		"unknown version": {want: kmsencrypted.ErrVersionNotActive, op: "open", column: key, run: func(t *testing.T, b *badRow) error {
			return b.openUnder(t, func(text string) string { return strings.Replace(text, "v1:", "v9:", 1) })
		}},
		"unknown version, to be sealed": {want: kmsencrypted.ErrVersionNotActive, op: "seal", column: key, run: func(t *testing.T, b *badRow) error {
			must(t, b.Key.Scan(strings.Replace(column(t, b.Key).(string), "v1:", "v9:", 1)))
			b.Email.Set("lovelace")
			return b.seal(t)
		}},
		"wrong context": {want: kmsencrypted.ErrDecrypt, op: "open", column: key, run: func(t *testing.T, b *badRow) error {
			b.context["customer"] = 8
			return b.open(t)
		}},
		"truncated column": {want: kmsencrypted.ErrMalformed, op: "open", column: email, run: func(t *testing.T, b *badRow) error {
			return b.openWith(t, func(text string) string { return text[:16] })
		}},
		"truncated key column": {want: kmsencrypted.ErrMalformed, op: "open", column: key, run: func(t *testing.T, b *badRow) error {
			return b.openUnder(t, func(text string) string { return text[:11] })
		}},
		"tampered column": {want: kmsencrypted.ErrDecrypt, op: "open", column: email, run: func(t *testing.T, b *badRow) error {
			return b.openWith(t, func(text string) string { return text[:40] + swapCase(text[40:64]) + text[64:] })
		}},
		"tampered key column": {want: kmsencrypted.ErrBinding, op: "open", column: key, run: func(t *testing.T, b *badRow) error {
			return b.openUnder(t, func(text string) string { return text[:7] + swapCase(text[7:40]) + text[40:] })
		}},
		"key column NULL beside ciphertexts": {want: kmsencrypted.ErrNoDataKey, op: "open", column: key, run: func(t *testing.T, b *badRow) error {
			must(t, b.Key.Scan(nil))
			return b.open(t)
		}},
		"key column NULL, to be sealed": {want: kmsencrypted.ErrNoDataKey, op: "seal", column: key, run: func(t *testing.T, b *badRow) error {
			must(t, b.Key.Scan(nil))
			b.Email.Set("lovelace")
			return b.seal(t)
		}},
		// Without a record seal that is a record whose fields are all NULL.
		"key column without ciphertexts": {want: kmsencrypted.ErrRecordSeal, op: "open", column: key, recordSeal: true, run: func(t *testing.T, b *badRow) error {
			must(t, errors.Join(b.Email.Scan(nil), b.Phone.Scan(nil)))
			return b.open(t)
		}},
		"plaintext where ciphertext should be": {want: kmsencrypted.ErrNotCiphertext, op: "open", column: email, run: func(t *testing.T, b *badRow) error {
			return b.openWith(t, instead("lovelace"))
		}},
		"ciphertext where plaintext should be": {want: kmsencrypted.ErrAlreadyEncrypted, op: "seal", column: email, run: func(t *testing.T, b *badRow) error {
			b.Email.Set(column(t, b.Email).(string))
			return b.seal(t)
		}},
		"wrong key length": {want: kmsencrypted.ErrBinding, op: "open", column: key, run: func(t *testing.T, b *badRow) error {
			b.bytes = []byte("half of a key...")
			return b.open(t)
		}},
		"wrong key length, Ruby": {want: kmsencrypted.ErrMalformed, op: "open", column: "column encrypted_kms_key", run: func(t *testing.T, b *badRow) error {
			type row struct {
				ID    int64            `db:"id"`
				Key   field.Key        `db:"encrypted_kms_key"`
				Email field.Of[string] `db:"email_ciphertext" kms:"lockbox"`
			}
			b.version.Format = kmsencrypted.Ruby
			m := newModel[row](t, nativeBox(t, b.version), field.Config{Table: "customers"})
			r := row{ID: 7, Email: field.New("ada@example.org")}
			must(t, m.Seal(t.Context(), &r))
			read := row{ID: 7}
			must(t, errors.Join(read.Key.Scan(column(t, r.Key)), read.Email.Scan(column(t, r.Email))))
			b.bytes = []byte("half of a key...")
			return m.Open(t.Context(), &read)
		}},
		"context value that is neither string nor integer": {want: kmsencrypted.ErrContext, op: "seal", column: key, run: func(t *testing.T, b *badRow) error {
			b.context["customer"] = 7.5
			return b.sealNew(t)
		}},
		"URL-safe base64": {want: kmsencrypted.ErrMalformed, op: "open", column: email, run: func(t *testing.T, b *badRow) error {
			return b.openWith(t, func(text string) string { return text[:4] + urlBase64(text[4:12]+"+/+/"+text[16:]) })
		}},
		"base64 with line breaks": {want: kmsencrypted.ErrMalformed, op: "open", column: email, run: func(t *testing.T, b *badRow) error {
			return b.openWith(t, func(text string) string { return text[:60] + "\n" + text[60:] + "\n" })
		}},
		"base64 without padding": {want: kmsencrypted.ErrMalformed, op: "open", column: key, run: func(t *testing.T, b *badRow) error {
			return b.openUnder(t, func(text string) string { return strings.TrimRight(text, "=") + "A" })
		}},
		"throttled": {want: kmsencrypted.ErrThrottled, op: "open", column: key, retryable: true, run: func(t *testing.T, b *badRow) error {
			b.err = kmsencrypted.ErrThrottled
			return b.open(t)
		}},
		"unreachable": {want: kmsencrypted.ErrUnavailable, op: "seal", column: key, retryable: true, run: func(t *testing.T, b *badRow) error {
			b.err = fmt.Errorf("%w: connection refused", kmsencrypted.ErrUnavailable)
			return b.sealNew(t)
		}},
		"permission denied": {want: kmsencrypted.ErrDenied, op: "open", column: key, run: func(t *testing.T, b *badRow) error {
			b.err = kmsencrypted.ErrDenied
			return b.open(t)
		}},
		"permission denied, to be sealed": {want: kmsencrypted.ErrNeedsDecrypt, op: "seal", column: key, run: func(t *testing.T, b *badRow) error {
			b.err = kmsencrypted.ErrDenied
			b.Email.Set("lovelace")
			return b.seal(t)
		}},
		"cancelled": {want: context.Canceled, op: "open", column: key, run: func(t *testing.T, b *badRow) error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return b.model.Open(ctx, &b.customer)
		}},
		"oversized value": {want: kmsencrypted.ErrTooLarge, op: "seal", column: "column born_ciphertext", run: func(t *testing.T, b *badRow) error {
			b.Born.Set(time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC))
			return b.seal(t)
		}},
		"oversized wrap": {want: kmsencrypted.ErrTooLarge, op: "seal", column: key, run: func(t *testing.T, b *badRow) error {
			b.bytes = make([]byte, 1<<16)
			return b.sealNew(t)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBadRow(t, c.recordSeal)
			err := c.run(t, b)
			wantError(t, name, err, c.want)
			if got := kmsencrypted.Retryable(err); got != c.retryable {
				t.Errorf("Retryable(%v) = %t", err, got)
			}
			checkText(t, err, "kmsencrypted: "+c.op+" customers id=7", c.column)
			if got, _ := b.Email.Get(); c.op == "open" && got != "" {
				t.Errorf("the field opened to %q", got)
			}
			_, email := b.Email.Value()
			_, born := b.Born.Value()
			if c.op == "seal" && !errors.Is(errors.Join(email, born), kmsencrypted.ErrUnsealed) {
				t.Error("the field can be written")
			}
		})
	}
}

// TestBadInputOfSecrets is the same for what belongs to no record: its errors
// name the operation, the key and the version.
func TestBadInputOfSecrets(t *testing.T) {
	t.Parallel()
	p := &failing{Provider: kmstest.Memory()}
	box := nativeBox(t, kmsencrypted.Version{Provider: p})
	ec := kmsencrypted.Context{"purpose": "webhook"}
	column, err := box.Encrypt(t.Context(), []byte("ada@example.org"), ec)
	must(t, err)
	for name, c := range map[string]struct {
		column  string
		context kmsencrypted.Context
		fails   error
		want    error
		version int
	}{
		"missing version":        {column: column[3:], want: kmsencrypted.ErrMalformed, version: 1},
		"unknown version":        {column: "v9" + column[2:], want: kmsencrypted.ErrVersionNotActive, version: 9},
		"version with zeros":     {column: "v01" + column[2:], want: kmsencrypted.ErrMalformed, version: 1},
		"wrong context":          {column: column, context: kmsencrypted.Context{"purpose": "other"}, want: kmsencrypted.ErrDecrypt, version: 1},
		"context of a float":     {column: column, context: kmsencrypted.Context{"purpose": 1.5}, want: kmsencrypted.ErrContext, version: 1},
		"truncated":              {column: column[:11], want: kmsencrypted.ErrMalformed, version: 1},
		"tampered commitment":    {column: column[:7] + swapCase(column[7:40]) + column[40:], want: kmsencrypted.ErrBinding, version: 1},
		"tampered value":         {column: column[:len(column)-24] + swapCase(column[len(column)-24:len(column)-4]) + column[len(column)-4:], want: kmsencrypted.ErrDecrypt, version: 1},
		"plaintext":              {column: "lovelace", want: kmsencrypted.ErrMalformed, version: 1},
		"throttled":              {column: column, fails: kmsencrypted.ErrThrottled, want: kmsencrypted.ErrThrottled, version: 1},
		"permission denied":      {column: column, fails: kmsencrypted.ErrDenied, want: kmsencrypted.ErrDenied, version: 1},
		"base64 with line break": {column: column[:40] + "\n" + column[40:], want: kmsencrypted.ErrMalformed, version: 1},
	} {
		if c.context == nil {
			c.context = ec
		}
		p.err = c.fails
		plaintext, err := box.Decrypt(t.Context(), c.column, c.context)
		wantError(t, name, err, c.want)
		checkText(t, err, "kmsencrypted: ", fmt.Sprintf("version %d", c.version))
		if plaintext != nil {
			t.Errorf("%s: Decrypt returned %d bytes beside the error", name, len(plaintext))
		}
	}
	p.err = nil
	_, err = box.Encrypt(t.Context(), []byte("ada@example.org"), kmsencrypted.Context{"purpose": true})
	wantError(t, "context of a bool", err, kmsencrypted.ErrContext)
	checkText(t, err, "kmsencrypted: wrap", "version 1")
}

// swapCase changes letters into others of base64.
func swapCase(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, text)
}

// checkText wants an error to say these things, and no secret, however it is
// printed.
func checkText(t *testing.T, err error, wanted ...string) {
	t.Helper()
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Error("failed", "err", err)
	for how, printed := range map[string]string{"%v": fmt.Sprintf("%v", err), "%+v": fmt.Sprintf("%+v", err), "slog JSON": log.String()} {
		for _, want := range wanted {
			if !strings.Contains(printed, want) {
				t.Errorf("%s of the error is %q, and does not say %q", how, printed, want)
			}
		}
		for _, secret := range badSecrets {
			if strings.Contains(printed, secret) {
				t.Errorf("%s of the error is %q, and holds %q", how, printed, secret)
			}
		}
	}
}
