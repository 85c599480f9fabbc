package blindindex

import (
	"database/sql/driver"
	"fmt"
	"io"
	"log/slog"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// Column is an index value as stored in the database: text, raw bytes or NULL.
// The zero value is NULL. database/sql accepts it as an argument of a query, as a
// field of a struct and as a target of Scan.
//
// It contains no plaintext, but reveals which values are equal. So, as in
// blind_index, it prints as "[blind index]" in fmt, slog and JSON. A Column is a
// plain value: the results of [Index.Compute] can be compared with == and used as
// keys of a map.
type Column struct {
	kind columnKind
	data string
}

type columnKind byte

const (
	columnNull columnKind = iota
	columnText
	columnBytes
)

// TextColumn returns a column that holds text.
func TextColumn(text string) Column { return Column{columnText, text} }

// BytesColumn returns a column that holds a copy of raw. Nil is NULL.
func BytesColumn(raw []byte) Column {
	if raw == nil {
		return Column{}
	}
	return Column{columnBytes, string(raw)}
}

// IsNull reports whether the column is NULL.
func (c Column) IsNull() bool { return c.kind == columnNull }

// Text returns the content of the column as a string, "" for NULL.
func (c Column) Text() string { return c.data }

// Bytes returns a copy of the content of the column, nil for NULL.
func (c Column) Bytes() []byte {
	if c.IsNull() {
		return nil
	}
	return []byte(c.data)
}

// Equal reports whether both columns hold the same bytes, or both NULL. Unlike
// ==, it ignores whether a driver returned text as a string or as bytes.
func (c Column) Equal(other Column) bool {
	return c.data == other.data && c.IsNull() == other.IsNull()
}

// Value implements [driver.Valuer]: a string, a []byte or nil.
func (c Column) Value() (driver.Value, error) {
	switch c.kind {
	case columnText:
		return c.data, nil
	case columnBytes:
		return []byte(c.data), nil
	}
	return nil, nil
}

// Scan implements [database/sql.Scanner] for text, bytes and NULL. It returns
// [kmsencrypted.ErrMalformed] for anything else.
func (c *Column) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*c = Column{}
	case string:
		*c = TextColumn(v)
	case []byte:
		*c = BytesColumn(v)
	default:
		return fmt.Errorf("blindindex: %w: a blind index is text or bytes, not %T", kmsencrypted.ErrMalformed, src)
	}
	return nil
}

const redactedColumn = "[blind index]"

// Format implements [fmt.Formatter]: redacted under every verb.
func (c Column) Format(f fmt.State, _ rune) { io.WriteString(f, redactedColumn) }

// LogValue implements [slog.LogValuer]: redacted.
func (c Column) LogValue() slog.Value { return slog.StringValue(redactedColumn) }

// MarshalJSON implements [encoding/json.Marshaler]: redacted.
func (c Column) MarshalJSON() ([]byte, error) { return []byte(`"` + redactedColumn + `"`), nil }

// Encoding turns the bytes of an index into a column. [Base64] and [Raw] are
// predefined. Any other function may be used, for example one that calls
// [TextColumn] with hex digits. The result must depend only on the argument.
type Encoding func(hash []byte) Column

// Base64 is the default: standard alphabet, padded, no newline.
func Base64(hash []byte) Column { return TextColumn(rubycompat.StrictEncode64(hash)) }

// Raw stores the bytes themselves, for binary columns (encode: false in
// blind_index).
func Raw(hash []byte) Column { return BytesColumn(hash) }

// base64Line is the encoding of blind_index with legacy: true.
func base64Line(hash []byte) Column { return TextColumn(rubycompat.Encode64(hash)) }
