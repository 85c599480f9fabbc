package rotatecli

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/nativefield"
)

// Inspection describes an encrypted value without opening it.
type Inspection struct {
	// Kind is "data key", "secret", "field", "file key", "blind index", "base64",
	// "NULL", "empty" or "unknown". Only inspect --table knows an index from other text.
	Kind    string `json:"kind"`
	Format  string `json:"format,omitempty"` // "native" or "ruby"
	Version int    `json:"version,omitempty"`
	KeyID   string `json:"key_id,omitempty"` // as configured for the version
	// Commitment is the commitment of a native data key. KeyTag is the public label of
	// the data key of a native field. Both are in hex.
	Commitment string       `json:"commitment,omitempty"`
	KeyTag     string       `json:"key_tag,omitempty"`
	RecordSeal bool         `json:"record_seal,omitempty"`
	Padded     bool         `json:"padded,omitempty"`
	Wraps      []WrapOfKind `json:"wraps,omitempty"`
	Bytes      int          `json:"bytes,omitempty"` // of the value, or of its plaintext if known
	Note       string       `json:"note,omitempty"`
}

// WrapOfKind is one wrapped copy of a data key.
type WrapOfKind struct {
	Tag     string `json:"tag,omitempty"` // of the provider, in a native column
	Service string `json:"service"`       // as far as the ciphertext reveals it
	Bytes   int    `json:"bytes"`
}

// A wrapped file key (spec/files.md section 4).
const (
	fileKeyPrefix = "fk1:"
	fileKeySize   = 12 + 32 + 16
)

// Inspect describes a value. It does not repeat a value that it does not recognise.
//
// One in 128 of Ruby's ciphertexts begins with a byte that begins a native field, so
// Inspect calls it one. The command inspect --table also looks at the key column of
// the record, which tells them apart.
func Inspect(value string) Inspection { return inspect(value, true) }

// inspect describes a value that may be a native field or not.
func inspect(value string, mayBeNative bool) Inspection {
	if value == "" {
		return Inspection{Kind: "empty", Note: "no ciphertext: Ruby stores the empty value as it is"}
	}
	if rest, ok := strings.CutPrefix(value, fileKeyPrefix); ok {
		raw, err := base64.RawURLEncoding.DecodeString(rest)
		if err == nil && len(raw) == fileKeySize {
			return Inspection{Kind: "file key", Format: "native", Note: "wrapped under the data key of its record"}
		}
		return Inspection{Kind: "unknown", Bytes: len(value), Note: "begins like a file key and is none"}
	}
	if version, body, ok := keycolumn.SplitVersion(value); ok {
		return inspectKey(version, body)
	}
	if service := legacyService(value); service != "" {
		return Inspection{Kind: "data key", Format: "ruby", Version: 1, Wraps: []WrapOfKind{{Service: service, Bytes: len(value)}},
			Note: "from before kms_encrypted 1.0"}
	}
	if raw := []byte(value); mayBeNative && isField(raw) {
		return inspectField(raw)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
	switch {
	case err != nil || len(raw) == 0:
		return Inspection{Kind: "unknown", Bytes: len(value), Note: "not a ciphertext that is known here, perhaps plaintext"}
	case mayBeNative && isField(raw):
		return inspectField(raw)
	case len(raw) < 12+16:
		return Inspection{Kind: "base64", Bytes: len(raw), Note: "shorter than any ciphertext with a nonce and a tag"}
	}
	note := fmt.Sprintf("as Lockbox writes: nonce 12, ciphertext %d, tag 16", len(raw)-12-16)
	if len(raw) == indexSize {
		note = "a blind index, or as Lockbox writes a value of 4 bytes: inspect --table tells which"
	}
	return Inspection{Kind: "base64", Format: "ruby", Bytes: len(raw), Note: note}
}

// indexSize is the usual size of a blind index.
const indexSize = 32

func isField(raw []byte) bool {
	return len(raw) >= nativefield.Overhead && nativefield.IsFormat(raw)
}

func inspectField(raw []byte) Inspection {
	return Inspection{
		Kind: "field", Format: "native", KeyTag: hex.EncodeToString(raw[1:nativefield.Head]),
		Padded: raw[0] == nativefield.Padded, Bytes: len(raw) - nativefield.Overhead,
	}
}

// inspectKey parses the body of "vN:…". A wrap of Ruby's has the native layout only by
// an unlikely coincidence of many bytes.
func inspectKey(version int, body string) Inspection {
	i := Inspection{Kind: "data key", Format: "native", Version: version}
	n, err := keycolumn.ParseText(body)
	if err != nil {
		raw, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			return Inspection{Kind: "unknown", Version: version, Bytes: len(body), Note: "a version, and no base64 behind it"}
		}
		i.Format, i.Wraps = "ruby", []WrapOfKind{{Service: serviceOf(raw), Bytes: len(raw)}}
		return i
	}
	i.Commitment = hex.EncodeToString(n.Commitment[:])
	i.RecordSeal = n.Format == keycolumn.FormatKey && len(n.Rest) == keycolumn.SealSize
	if n.Format == keycolumn.FormatSecret {
		i.Kind, i.Bytes = "secret", max(0, len(n.Rest)-12-16)
	}
	for _, w := range n.Wraps {
		i.Wraps = append(i.Wraps, WrapOfKind{Tag: w.Tag, Service: serviceOf(w.Ciphertext), Bytes: len(w.Ciphertext)})
	}
	return i
}

// testKeyPrefix is what "insecure+data+A", the mark of the insecure test key, decodes
// to, in whole bytes.
const testKeyPrefix = "\x8a\x7b\x1e\x72\xea\xde\xf9\xd6\xad\x6b\xe0"

// services are recognised by the first bytes of their ciphertexts.
var services = []struct{ begins, name string }{
	{"\x01\x02\x02\x00", "AWS KMS"}, {"\x01\x02\x03\x00", "AWS KMS"},
	{"\x0a\x24\x00", "Google Cloud KMS"}, {"\x0a\x25\x00", "Google Cloud KMS"},
	{testKeyPrefix, "insecure test key"},
}

// serviceOf returns the service that made a wrap. Vault's wraps are text that contains
// the version of the key.
func serviceOf(ciphertext []byte) string {
	if rest, ok := strings.CutPrefix(string(ciphertext), "vault:v"); ok {
		if n, _, found := strings.Cut(rest, ":"); found {
			return "Vault, key version " + n
		}
	}
	for _, known := range services {
		if strings.HasPrefix(string(ciphertext), known.begins) {
			return known.name
		}
	}
	if id, ok := localKey(ciphertext); ok {
		return "local key " + id
	}
	return "unknown service"
}

// localKey reads the id of the key at the start of a local provider's ciphertext.
func localKey(ciphertext []byte) (id string, ok bool) {
	const sealed = 12 + 32 + 16
	if len(ciphertext) == 0 || len(ciphertext) != 1+int(ciphertext[0])+sealed {
		return "", false
	}
	id = string(ciphertext[1 : 1+ciphertext[0]])
	for _, c := range id {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", c) {
			return "", false
		}
	}
	return id, id != ""
}

func legacyService(value string) string {
	switch {
	case strings.HasPrefix(value, "$gc$"):
		return "Google Cloud KMS"
	case strings.HasPrefix(value, "vault:v"):
		return serviceOf([]byte(value))
	}
	return ""
}

// String returns one line: "version 2 · native · data key · commitment 9f31… · 2
// wraps: aws eu-central-1, aws eu-west-1".
func (i Inspection) String() string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if i.Version > 0 {
		add("version %d", i.Version)
	}
	if i.Format != "" {
		add("%s", i.Format)
	}
	add("%s", i.Kind)
	if i.KeyID != "" {
		add("key %s", i.KeyID)
	}
	if i.Commitment != "" {
		add("commitment %s…", i.Commitment[:8])
	}
	if i.RecordSeal {
		add("record seal")
	}
	if i.KeyTag != "" {
		add("data key tag %s", i.KeyTag)
	}
	switch {
	case i.Padded:
		add("padded to %s", things(int64(i.Bytes), "byte"))
	case i.Bytes > 0 && (i.Kind == "field" || i.Kind == "secret"):
		add("plaintext of %s", things(int64(i.Bytes), "byte"))
	case i.Bytes > 0:
		add("%s", things(int64(i.Bytes), "byte"))
	}
	if len(i.Wraps) > 0 {
		wraps := make([]string, len(i.Wraps))
		for n, w := range i.Wraps {
			wraps[n] = w.Service
			if w.Tag != "" && !strings.HasPrefix(strings.ToLower(w.Service), w.Tag) {
				wraps[n] = w.Tag + " (" + w.Service + ")"
			}
		}
		add("%s: %s", things(int64(len(wraps)), "wrap"), strings.Join(wraps, ", "))
	}
	if i.Note != "" {
		add("%s", i.Note)
	}
	return strings.Join(parts, " · ")
}
