// Package secret keeps plaintext and keys out of logs, errors and encodings.
//
// Every type that holds a secret embeds [Redacted] and keeps the secret behind a
// [Pointer]. The methods cover printing the type itself. The pointer covers
// printing a struct with it in an unexported field, which fmt prints without
// calling its methods.
package secret

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Text is printed in place of a secret.
const Text = "[redacted]"

// errDecode reports an attempt to decode the text above, which would replace a
// secret by it.
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
