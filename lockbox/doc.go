// Package lockbox reads and writes what the Ruby gem Lockbox (2.x) stores, byte
// for byte: boxes, keys, and the columns of typed attributes. A Rails process
// and a Go process can work on the same rows.
//
// A [Box] seals bytes under one key:
//
//	key, err := lockbox.ParseKey(os.Getenv("BOX_KEY")) // 64 hex digits
//	box, err := lockbox.New(key, lockbox.Options{})
//	sealed, err := box.Seal(nil, []byte("secret"), nil)
//
// Attributes of a model that declares has_encrypted :email are not sealed under
// the master key but under a key derived from it for table and column, as
// Lockbox does:
//
//	master, err := lockbox.ParseMasterKey(os.Getenv("LOCKBOX_MASTER_KEY"))
//	key, err := master.AttributeKey("users", "email_ciphertext")
//	box, err := lockbox.New(key, lockbox.Options{})
//	column := lockbox.Column{Box: box}
//	text, err := column.Seal(nil, []byte("ada@example.org"), nil)
//
// A [Type] turns the values of the type: option (date, integer, json, …) into
// plaintext and back. Package lockbox/rubyyaml serves the types hash and array.
//
// Lockbox's layout says neither which key nor which version sealed a box, and
// binds it to nothing unless associated data is given: whoever can write to the
// database can move a box to another row under the same key. This module's own
// format does not have that weakness; this package exists to share data with Ruby.
//
// All errors are those of package kmsencrypted: ErrConfig for a mistake in keys
// and options, ErrDecrypt, ErrMalformed and ErrNotCiphertext for what was read.
package lockbox
