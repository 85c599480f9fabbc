// Package lockbox reads and writes what the Ruby gem Lockbox (2.x) stores, byte for
// byte: boxes, keys, and the columns of typed attributes. A Rails process and a Go
// process can use the same rows.
//
// A [Box] seals bytes under one key:
//
//	key, err := lockbox.ParseKey(os.Getenv("BOX_KEY")) // 64 hex digits
//	box, err := lockbox.New(key, lockbox.Options{})
//	sealed, err := box.Seal(nil, []byte("secret"), nil)
//
// Attributes of a model that declares has_encrypted :email are sealed under a key
// that Lockbox derives from the master key for table and column:
//
//	master, err := lockbox.ParseMasterKey(os.Getenv("LOCKBOX_MASTER_KEY"))
//	key, err := master.AttributeKey("users", "email_ciphertext")
//	box, err := lockbox.New(key, lockbox.Options{})
//	column := lockbox.Column{Box: box}
//	text, err := column.Seal(nil, []byte("ada@example.org"), nil)
//
// A [Type] converts the values of the type: option (date, integer, json, …) to
// plaintext and back. Package lockbox/rubyyaml handles the types hash and array.
//
// A box does not say which key or version sealed it, and is bound to nothing unless
// associated data is given: somebody who can write to the database can move a box
// to another row under the same key. This module's own format does not have that
// weakness. This package exists to share data with Ruby.
//
// All errors are those of package kmsencrypted: ErrConfig for invalid keys and
// options, ErrDecrypt, ErrMalformed and ErrNotCiphertext for invalid stored data.
package lockbox
