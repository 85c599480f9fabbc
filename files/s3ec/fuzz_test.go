package s3ec

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// FuzzEnvelope: what parses is written back with the same meaning, and nothing panics.
func FuzzEnvelope(f *testing.F) {
	for _, file := range []string{"ruby.json", "go.json", "v3-built.json", "negative.json"} {
		var all []vector
		vectors.LoadS3EC(f, file, &all)
		for i := 0; i < len(all); i += 7 {
			metadata, err := json.Marshal(all[i].Metadata)
			must(f, err)
			instruction := ""
			if all[i].Instruction != nil {
				instruction = *all[i].Instruction
			}
			f.Add(metadata, instruction)
		}
	}
	f.Fuzz(func(t *testing.T, metadata []byte, instruction string) {
		var fields map[string]string
		if json.Unmarshal(metadata, &fields) != nil {
			return
		}
		e, err := parseEnvelope(fields, func() (string, error) {
			if instruction == "" {
				return "", fs.ErrNotExist
			}
			return instruction, nil
		})
		if err != nil || e.format == V1 {
			return
		}
		written, err := e.fields()
		must(t, err)
		again, err := parseEnvelope(written, func() (string, error) { return "", fs.ErrNotExist })
		must(t, err)
		if again.format != e.format || again.wrap != e.wrap || again.content != e.content || !maps.Equal(again.description, e.description) ||
			!bytes.Equal(again.wrapped, e.wrapped) || !bytes.Equal(again.iv, e.iv) ||
			!bytes.Equal(again.message, e.message) || !bytes.Equal(again.commitment, e.commitment) {
			t.Errorf("written back as %+v, was %+v", again, e)
		}
	})
}

// FuzzStrings: an object of strings is written as ASCII that encoding/json reads as the
// same.
func FuzzStrings(f *testing.F) {
	f.Add("tenant", "7")
	f.Add("Büro", "Köln \U0001f511\u2028\x7f<>&\"\\")
	f.Add("aws:x-amz-cek-alg", gcmName)
	f.Fuzz(func(t *testing.T, name, value string) {
		object := map[string]string{name: value, "other": "x"}
		text, err := formatStrings(object)
		if err != nil {
			return
		}
		for _, b := range []byte(text) {
			if b < ' ' || b >= 0x7f {
				t.Fatalf("%q is not for a header", text)
			}
		}
		var standard map[string]string
		must(t, json.Unmarshal([]byte(text), &standard))
		ours, err := parseStrings(text, false)
		must(t, err)
		if !maps.Equal(standard, object) || !maps.Equal(ours, object) {
			t.Errorf("%q became %q and %q", object, standard, ours)
		}
	})
}

// FuzzInstruction: what our reader takes, encoding/json takes as the same.
func FuzzInstruction(f *testing.F) {
	f.Add(`{"x-amz-tag-len":128,"a":"b"}`)
	f.Add(`{"a":"b","a":"c"}`)
	f.Add(`{"a":{"b":"c"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		ours, err := parseStrings(text, true)
		if err != nil {
			return
		}
		var standard map[string]any
		must(t, json.Unmarshal([]byte(text), &standard))
		if len(standard) != len(ours) {
			t.Errorf("%d names, encoding/json has %d", len(ours), len(standard))
		}
		for name, value := range standard {
			if s, ok := value.(string); ok && s != ours[name] {
				t.Errorf("%q = %q, encoding/json has %q", name, ours[name], s)
			}
		}
	})
}

// S3 returns metadata that is not ASCII as words of RFC 2047, in which each byte of UTF-8
// became a character.
func TestDecodeHeader(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"a":"b"}`:                           `{"a":"b"}`,
		`=?UTF-8?Q?{"a":"K=C3=83=C2=B6ln"}?=`: `{"a":"Köln"}`,
		`=?UTF-8?B?eyJhIjoiS8ODwrZsbiJ9?=`:    `{"a":"Köln"}`,
		`=?UTF-8?Q?K=C3=B6ln?=`:               "Köln", // encoded once
		`=?UTF-8?Q?=E2=82=AC?=`:               "€",
		`=?nonsense`:                          `=?nonsense`,
	} {
		if got := decodeHeader(in); got != want {
			t.Errorf("decodeHeader(%q) = %q, want %q", in, got, want)
		}
	}
}
