package field

import (
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/nativefield"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Dialect is the SQL of a database: [Postgres], [MySQL] or [SQLite]. Its text is
// the name in lower case.
type Dialect = sqldialect.Dialect

const (
	Postgres = sqldialect.Postgres
	MySQL    = sqldialect.MySQL // and MariaDB
	SQLite   = sqldialect.SQLite
)

// ddl is what the databases write differently.
var ddl = map[Dialect]struct {
	text, binary, index string
	// key, base64 and native are conditions on a text column, with %[1]s for its
	// name and %[2]d for the least number of characters.
	key, base64, native string
	// bytes is the condition on a binary column in native form, with %[3]d and %[4]d
	// for its format bytes.
	bytes string
	// message is the condition on a column of Rails' encrypts, text or JSON.
	message string
}{
	Postgres: {
		text: "text", binary: "bytea", index: "text",
		key:    `%[1]s ~ '^v[0-9]+:'`,
		base64: `%[1]s ~ '^[A-Za-z0-9+/=\n]*$' AND (%[1]s = '' OR length(%[1]s) >= %[2]d) AND length(replace(%[1]s, chr(10), '')) %% 4 = 0`,
		native: `%[1]s ~ '^w[A-Za-z0-9+/]+=*$' AND length(%[1]s) >= %[2]d AND length(%[1]s) %% 4 = 0`,
		bytes:  `get_byte(%[1]s, 0) IN (%[3]d, %[4]d) AND length(%[1]s) >= %[2]d`,
		// LIKE does not know json and jsonb.
		message: strings.ReplaceAll(isMessage, "%[1]s", "CAST(%[1]s AS text)"),
	},
	MySQL: {
		text: "longtext", binary: "longblob", index: "varchar(255)",
		key:     `%[1]s REGEXP '^v[0-9]+:'`,
		base64:  `%[1]s REGEXP '^[A-Za-z0-9+/=\n]*$' AND (%[1]s = '' OR char_length(%[1]s) >= %[2]d) AND char_length(replace(%[1]s, char(10), '')) %% 4 = 0`,
		native:  `ord(%[1]s) = 119 AND %[1]s REGEXP '^[A-Za-z0-9+/]+=*$' AND char_length(%[1]s) >= %[2]d AND char_length(%[1]s) %% 4 = 0`, // 'w', whatever the collation
		bytes:   `ord(%[1]s) IN (%[3]d, %[4]d) AND length(%[1]s) >= %[2]d`,
		message: isMessage,
	},
	SQLite: {
		text: "text", binary: "blob", index: "text",
		key:     `%[1]s GLOB 'v[0-9]*:*'`,
		base64:  `%[1]s NOT GLOB '*[^A-Za-z0-9+/=' || char(10) || ']*' AND (%[1]s = '' OR length(%[1]s) >= %[2]d) AND length(replace(%[1]s, char(10), '')) %% 4 = 0`,
		native:  `%[1]s GLOB 'w*' AND %[1]s NOT GLOB '*[^A-Za-z0-9+/=]*' AND length(%[1]s) >= %[2]d AND length(%[1]s) %% 4 = 0`,
		bytes:   `hex(substr(%[1]s, 1, 1)) IN ('%[3]X', '%[4]X') AND length(%[1]s) >= %[2]d`,
		message: isMessage,
	},
}

// DDL returns a definition for each column that the model manages, such as
// `"email_ciphertext" text`, for CREATE TABLE or ALTER TABLE … ADD COLUMN. All of
// them may be NULL. The error is [kmsencrypted.ErrConfig] for an unknown dialect.
func (m *Model[R]) DDL(d Dialect) ([]string, error) { return m.inner().ddl(d) }

func (c *core) ddl(d Dialect) ([]string, error) {
	if err := c.usable(nil); err != nil {
		return nil, err
	}
	if err := d.Check(); err != nil {
		return nil, fmt.Errorf("field: %w", err)
	}
	sql := ddl[d]
	types := make(map[string]string)
	for _, k := range c.schema.keys {
		for _, f := range k.fields {
			if f.binary {
				types[f.column] = sql.binary
			}
		}
	}
	for _, x := range c.schema.indexes {
		types[x.column] = sql.index
		if x.binary {
			types[x.column] = sql.binary
		}
	}
	var definitions []string
	for _, column := range c.schema.managedColumns() {
		definitions = append(definitions, d.Defined(column)+" "+or(types[column], sql.text))
	}
	return definitions, nil
}

// isMessage is the condition on a text column of Rails' encrypts, in every dialect. One that
// was cut has more opening braces than closing ones.
const isMessage = `%[1]s LIKE '{%%"p"%%}' AND %[1]s LIKE '{%%"iv"%%}' AND length(replace(%[1]s, '{', '')) = length(replace(%[1]s, '}', ''))`

// The minimum sizes of a ciphertext: native, and in Ruby's forms, of which an
// attr_encrypted CBC value is the shortest.
const (
	leastNativeText = (nativefield.Overhead + 2) / 3 * 4
	leastRubyText   = 24
)

// CheckConstraint returns a table constraint, "CONSTRAINT … CHECK (…)". With it
// the database refuses values that are not ciphertexts in encrypted columns, also
// from programs that do not use the model. It does not prove that a value opens.
// Columns that may be in the form of a Ruby gem are only checked to be base64 in whole
// groups of four, with or without line breaks, and those of Rails' encrypts, which may be
// of the type json or jsonb, to be an object with its names. Binary columns in these forms are not checked, and neither are
// columns of Rails' encrypts that may hold plaintext.
func (m *Model[R]) CheckConstraint(d Dialect) (string, error) { return m.inner().checkConstraint(d) }

func (c *core) checkConstraint(d Dialect) (string, error) {
	if err := c.usable(nil); err != nil {
		return "", err
	}
	if err := d.Check(); err != nil {
		return "", fmt.Errorf("field: %w", err)
	}
	sql := ddl[d]
	var conditions []string
	add := func(column, condition string, least int) {
		name := d.Defined(column)
		conditions = append(conditions, fmt.Sprintf("(%[1]s IS NULL OR ("+condition+"))", name, least, nativefield.Padded, nativefield.Plain))
	}
	for _, k := range c.schema.keys {
		if !k.isMaster {
			add(k.column, sql.key, 0)
		}
		for _, f := range k.fields {
			switch {
			case f.binary && f.ruby == "":
				add(f.column, sql.bytes, nativefield.Overhead)
			case f.binary, f.readsPlaintext():
			case f.ruby == activeRecordForm:
				add(f.column, sql.message, 0)
			case f.ruby == "":
				add(f.column, sql.native, leastNativeText)
			default:
				add(f.column, sql.base64, leastRubyText)
			}
		}
	}
	if len(conditions) == 0 {
		conditions = append(conditions, "1 = 1") // a CHECK must have one
	}
	return "CONSTRAINT " + d.Defined(c.table()+"_encrypted") + " CHECK (\n\t" + strings.Join(conditions, " AND\n\t") + "\n)", nil
}
