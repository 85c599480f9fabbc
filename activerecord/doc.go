// Package activerecord reads and writes the columns of ActiveRecord Encryption, the
// method encrypts of Rails 7.0 to 8.1, byte for byte.
//
//	rails, err := activerecord.New(activerecord.Config{
//		PrimaryKeys:      activerecord.Passwords(primaryKey), // config.active_record.encryption.primary_key
//		DeterministicKey: activerecord.Password(deterministicKey),
//		Salt:             keyDerivationSalt,
//	})
//	email, err := rails.Attribute(activerecord.Scheme{Deterministic: true}) // encrypts :email, deterministic: true
//	column, err := email.Encrypt(activerecord.UTF8("ada@example.org"))
//	text, err := email.Decrypt(column)
//	columns, err := email.Lookup(activerecord.UTF8("ada@example.org")) // WHERE email IN (columns)
//
// A column holds a message: JSON, or MessagePack in a binary column, with the
// ciphertext of AES-256-GCM, its nonce and its tag. The key is derived from a password
// of the application by PBKDF2.
//
//	{"p":"<ciphertext>","h":{"iv":"<12 bytes>","at":"<tag of 16 bytes>"}}
//
// Text of more than 140 bytes is compressed first. [Attribute.Decrypt] bounds what it
// inflates.
//
// The format binds a value to its key only. All columns, rows and tables of an
// application have the same key, so whoever can write to the database can copy a value
// from one row or column to another, where it opens. A deterministic column shows which
// rows have equal values, and so do two deterministic columns. Use the format to share
// data with Rails, or to migrate from it.
//
// # What differs from Rails
//
// Rails gives the same error for a wrong key, a damaged column and plaintext. Here they
// are [kmsencrypted.ErrDecrypt], [kmsencrypted.ErrMalformed] and
// [kmsencrypted.ErrNotCiphertext]. Where Rails raises NoMethodError or a Zlib error, it
// is ErrMalformed. Plaintext in a column is read only where the configuration allows it,
// and a message that does not open never counts as plaintext unless [PlaintextLax] says
// so. Comments in the JSON of a message, and headers as a list, which Rails reads by
// accident, are refused. A deterministic value that Rails would store with U+FFFD in
// place of its bytes is [kmsencrypted.ErrLossy].
package activerecord
