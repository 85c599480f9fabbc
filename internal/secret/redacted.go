// Package secret keeps plaintext and keys out of logs, errors and encodings.
//
// Every type that holds a secret embeds [Redacted] and keeps the secret behind
// a [Pointer]. The methods cover printing the type itself; the pointer covers
// printing a struct that holds it in an unexported field, where fmt prints
// fields without asking their methods.
package secret

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Text is what is printed in place of a secret.
const Text = "[redacted]"

// errDecode: what was encoded is the word above, so reading it back would
// replace a secret by that word.
var errDecode = errors.New("kmsencrypted: a redacted value cannot be decoded")

// Redacted prints as [Text] under every verb of fmt, in slog and in
// encoding/json, encoding/xml, encoding/gob and YAML, and refuses to be decoded.
type Redacted struct{}

func (Redacted) Format(s fmt.State, _ rune)   { io.WriteString(s, Text) }
func (Redacted) String() string               { return Text }
func (Redacted) GoString() string             { return Text }
func (Redacted) LogValue() slog.Value         { return slog.StringValue(Text) }
func (Redacted) MarshalText() ([]byte, error) { return []byte(Text), nil }
func (Redacted) MarshalJSON() ([]byte, error) { return []byte(`"` + Text + `"`), nil }
func (Redacted) GobEncode() ([]byte, error)   { return []byte(Text), nil }

func (*Redacted) UnmarshalText([]byte) error { return errDecode }
func (*Redacted) UnmarshalJSON([]byte) error { return errDecode }
func (*Redacted) GobDecode([]byte) error     { return errDecode }
