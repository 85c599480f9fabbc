package s3ec

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

// Format is the format of an object.
type Format int

// The formats. Their numbers are those of AWS's clients.
const (
	V1 Format = 1 + iota // AES-CBC without authentication; only read
	V2                   // AES-GCM
	V3                   // AES-GCM with key commitment
)

func (f Format) String() string { return fmt.Sprintf("V%d", int(f)) }

// Names of metadata, without x-amz-meta- before them.
const (
	nameV1Key      = "x-amz-key"
	nameV2Key      = "x-amz-key-v2"
	nameIV         = "x-amz-iv"
	nameContent    = "x-amz-cek-alg"
	nameTagLength  = "x-amz-tag-len"
	nameWrap       = "x-amz-wrap-alg"
	nameMaterial   = "x-amz-matdesc"
	namePlainSize  = "x-amz-unencrypted-content-length"
	nameV3Key      = "x-amz-3"
	nameV3Content  = "x-amz-c"
	nameV3Commit   = "x-amz-d"
	nameV3Message  = "x-amz-i"
	nameV3Wrap     = "x-amz-w"
	nameV3Context  = "x-amz-t"
	nameV3Material = "x-amz-m"
)

// layouts are the names that the envelope of each format may hold, the one of the
// wrapped key first.
var layouts = map[Format][]string{
	V1: {nameV1Key, nameIV, nameMaterial},
	V2: {nameV2Key, nameIV, nameContent, nameTagLength, nameWrap, nameMaterial},
	V3: {nameV3Key, nameV3Content, nameV3Commit, nameV3Message, nameV3Wrap, nameV3Context, nameV3Material},
}

// notInInstruction are the names of V3 that belong to the object's own metadata, also if
// an instruction object holds the rest.
var notInInstruction = []string{nameV3Content, nameV3Commit, nameV3Message}

// reserved reports whether a name of metadata belongs to an envelope.
func reserved(name string) bool {
	for _, names := range layouts {
		if slices.Contains(names, name) {
			return true
		}
	}
	return name == namePlainSize
}

// wrapping is how the data key is wrapped.
type wrapping struct{ name, code string } // in V2 and V3

var (
	wrapKMS = wrapping{"kms+context", "12"}
	wrapAES = wrapping{"AES/GCM", "02"}
	wrapRSA = wrapping{"RSA-OAEP-SHA1", "22"}

	wrapLegacyKMS = wrapping{name: "kms"}
	wrapLegacyAES = wrapping{name: "AES-ECB"} // V1 has no names for these two
	wrapLegacyRSA = wrapping{name: "RSA-PKCS1v15"}
)

// envelope is everything that is stored with an object in order to open it.
type envelope struct {
	format      Format
	wrap        wrapping
	content     string // the content algorithm's name, which wraps of V2 and V3 bind
	wrapped     []byte
	iv          []byte            // V1, V2
	message     []byte            // V3
	commitment  []byte            // V3
	description map[string]string // the encryption context under KMS
}

const (
	gcmName    = "AES/GCM/NoPadding"
	v3Name     = "115" // the algorithm suite 0x0073
	keySize    = 32
	ivSize     = 12
	messageLen = 28
	commitLen  = 28
)

var cbcNames = []string{"AES/CBC/PKCS5Padding", "AES/CBC/PKCS7Padding"} // two names of the same

// maxInstruction is the size in bytes of the largest instruction object that is read. A
// context may have 8 KiB, and JSON may take six bytes for one.
const maxInstruction = 64 << 10

// parseEnvelope reads the envelope from metadata, or else from the instruction object
// that instruction returns.
func parseEnvelope(metadata map[string]string, instruction func() (string, error)) (*envelope, error) {
	fields := make(map[string]string)
	for name, value := range metadata {
		if name = strings.ToLower(name); reserved(name) && name != namePlainSize && value != "" {
			fields[name] = value // empty is the same as absent
		}
	}
	if len(formatsOf(fields)) == 0 {
		text, err := instruction()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: it has no envelope, and there is no instruction object", kmsencrypted.ErrNotCiphertext)
		}
		if err != nil {
			return nil, err
		}
		if err := addInstruction(fields, text); err != nil {
			return nil, err
		}
	}
	formats := formatsOf(fields)
	if len(formats) != 1 {
		return nil, malformed("%d envelopes instead of one", len(formats))
	}
	format := formats[0]
	for name := range fields {
		if !slices.Contains(layouts[format], name) {
			return nil, malformed("%s does not belong to an object in format %v", name, format)
		}
	}
	return parsers[format](fields)
}

func formatsOf(fields map[string]string) (found []Format) {
	for format, names := range layouts {
		if fields[names[0]] != "" {
			found = append(found, format)
		}
	}
	return found
}

// addInstruction adds the fields of an instruction object.
func addInstruction(fields map[string]string, text string) error {
	object, err := parseStrings(text, true)
	if err != nil {
		return fmt.Errorf("instruction object: %w", err)
	}
	for name, value := range object {
		if !reserved(name) || name == namePlainSize || value == "" {
			continue
		}
		if _, twice := fields[name]; twice || slices.Contains(notInInstruction, name) {
			return malformed("%s must not be in the instruction object", name)
		}
		fields[name] = value
	}
	return nil
}

var parsers = map[Format]func(map[string]string) (*envelope, error){V1: parseV1, V2: parseV2, V3: parseV3}

func parseV1(fields map[string]string) (e *envelope, err error) {
	e = &envelope{format: V1, wrap: wrapLegacyRSA}
	if e.wrapped, err = decode64(fields[nameV1Key]); err != nil {
		return nil, err
	}
	if len(e.wrapped) == legacyWrapSize {
		e.wrap = wrapLegacyAES
	}
	// The description only helps to choose a key, and V1 does not say what it is.
	e.description, _ = parseStrings(decodeHeader(fields[nameMaterial]), false)
	return e, e.parseIV(fields, blockSize)
}

func parseV2(fields map[string]string) (e *envelope, err error) {
	e = &envelope{format: V2, content: fields[nameContent]}
	if e.wrapped, err = decode64(fields[nameV2Key]); err != nil {
		return nil, err
	}
	if e.description, err = parseStrings(decodeHeader(fields[nameMaterial]), false); err != nil {
		return nil, fmt.Errorf("%s: %w", nameMaterial, err)
	}
	wrap := fields[nameWrap]
	if slices.Contains(cbcNames, e.content) && wrap == wrapLegacyKMS.name {
		e.format, e.wrap = V1, wrapLegacyKMS // V1 objects under KMS have this envelope
		if _, downgraded := e.description[reservedEntry]; downgraded {
			return nil, malformed("an encryption context of V2 with the content algorithm of V1")
		}
		return e, e.parseIV(fields, blockSize)
	}
	if e.content != gcmName || fields[nameTagLength] != "128" {
		return nil, malformed("content algorithm %q with a tag of %q bits", e.content, fields[nameTagLength])
	}
	if e.wrap, err = chooseWrap(func(w wrapping) bool { return w.name == wrap }, wrap); err != nil {
		return nil, err
	}
	return e, e.parseIV(fields, ivSize)
}

func parseV3(fields map[string]string) (e *envelope, err error) {
	e = &envelope{format: V3, content: fields[nameV3Content]}
	if e.content != v3Name {
		return nil, malformed("content algorithm %q", e.content)
	}
	code := fields[nameV3Wrap]
	if e.wrap, err = chooseWrap(func(w wrapping) bool { return w.code == code }, code); err != nil {
		return nil, err
	}
	description := nameV3Material
	if e.wrap == wrapKMS {
		description = nameV3Context
	}
	e.description = make(map[string]string)
	if text := fields[description]; text != "" {
		if e.description, err = parseStrings(decodeHeader(text), false); err != nil {
			return nil, fmt.Errorf("%s: %w", description, err)
		}
	}
	for _, field := range []struct {
		name string
		size int // 0 for any
		to   *[]byte
	}{{nameV3Key, 0, &e.wrapped}, {nameV3Message, messageLen, &e.message}, {nameV3Commit, commitLen, &e.commitment}} {
		if *field.to, err = decode64(fields[field.name]); err != nil {
			return nil, fmt.Errorf("%s: %w", field.name, err)
		}
		if field.size > 0 && len(*field.to) != field.size {
			return nil, malformed("%s of %d bytes", field.name, len(*field.to))
		}
	}
	return e, nil
}

func chooseWrap(is func(wrapping) bool, given string) (wrapping, error) {
	all := []wrapping{wrapKMS, wrapAES, wrapRSA}
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i], nil
	}
	return wrapping{}, malformed("key wrap %q", given)
}

func (e *envelope) parseIV(fields map[string]string, size int) (err error) {
	if e.iv, err = decode64(fields[nameIV]); err == nil && len(e.iv) != size {
		err = malformed("%s of %d bytes", nameIV, len(e.iv))
	}
	return err
}

// fields returns the envelope of a new object as names and values.
func (e *envelope) fields() (map[string]string, error) {
	description, err := formatStrings(e.description)
	if err != nil {
		return nil, err
	}
	encode := base64.StdEncoding.EncodeToString
	if e.format == V2 {
		return map[string]string{
			nameV2Key: encode(e.wrapped), nameIV: encode(e.iv), nameContent: e.content, nameTagLength: "128",
			nameWrap: e.wrap.name, nameMaterial: description,
		}, nil
	}
	name := nameV3Material
	if e.wrap == wrapKMS {
		name = nameV3Context
	}
	return map[string]string{
		nameV3Key: encode(e.wrapped), nameV3Content: e.content, nameV3Commit: encode(e.commitment), nameV3Message: encode(e.message),
		nameV3Wrap: e.wrap.code, name: description,
	}, nil
}
