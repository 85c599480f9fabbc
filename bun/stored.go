package kmsbun

import (
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/nativefield"
)

// isStored reports whether a constant in a statement looks like what a column holds.
// The statement does not show where bun took it from. What a database holds begins with
// the byte of its format and has a minimal length, as in the constraint of the table.
func (t *table) isStored(column, constant string) bool {
	form, ok := t.forms()[column]
	if !ok {
		return false
	}
	if form.Holds != nil && !form.Binary {
		return form.Holds([]byte(constant))
	}
	if form.Binary {
		bytes, err := hex.DecodeString(strings.TrimPrefix(strings.ToLower(constant), `\x`))
		if form.Holds != nil {
			return err == nil && form.Holds(bytes)
		}
		return err == nil && isLong(form, len(bytes)) && (form.Fixed || nativefield.IsFormat(bytes))
	}
	bytes, err := base64.StdEncoding.DecodeString(constant)
	return err == nil && isLong(form, len(constant)) && (form.Fixed || form.Least < nativeText || nativefield.IsFormat(bytes))
}

// nativeText is the length of the shortest text of the native format. Columns with
// shorter ones have the format of Ruby, which has no first byte of its own.
var nativeText = base64.StdEncoding.EncodedLen(nativefield.Overhead)

func (t *table) forms() map[string]field.ColumnForm {
	forms := make(map[string]field.ColumnForm)
	for _, f := range t.model.Forms() {
		forms[f.Column] = f
	}
	return forms
}

func isLong(f field.ColumnForm, n int) bool {
	if f.Fixed && f.Least > 0 {
		return n == f.Least
	}
	return n >= f.Least && n > 0
}
