// Package attrencrypted reads and writes the columns of the Ruby gem
// attr_encrypted (3.x and 4.x over encryptor 3.0), byte for byte, and reads what
// earlier versions wrote.
//
//	ssn, err := attrencrypted.New(key, attrencrypted.Options{})
//	columns, err := ssn.Encrypt([]byte("123-45-6789"))
//	// columns.Value, columns.IV: encrypted_ssn, encrypted_ssn_iv
//	plaintext, err := ssn.Decrypt(columns)
//
// An attribute has up to three columns, the fields of [Columns].
// [Attribute.EncryptValue] converts values to plaintext: as text (to_s) or, with
// "marshal: true", in Ruby's Marshal format.
//
// The format binds a value only to its key, and its CBC modes do not detect
// changes of the ciphertext. Use it only to share data with Ruby.
//
// All errors are those of package kmsencrypted: ErrConfig for an invalid key or
// option, ErrDecrypt and ErrMalformed for invalid stored data.
package attrencrypted
