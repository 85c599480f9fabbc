// Package attrencrypted reads and writes the columns of the Ruby gem
// attr_encrypted (3.x and 4.x over encryptor 3.0), byte for byte, and reads what
// earlier versions wrote.
//
//	ssn, err := attrencrypted.New(key, attrencrypted.Options{})
//	columns, err := ssn.Encrypt([]byte("123-45-6789"))
//	// columns.Value, columns.IV: encrypted_ssn, encrypted_ssn_iv
//	plaintext, err := ssn.Decrypt(columns)
//
// An attribute has up to three columns, which [Columns] names. How values become
// plaintext is [Attribute.EncryptValue]'s affair: as text (to_s) or, with
// "marshal: true", in Ruby's Marshal format.
//
// The format binds a value to nothing but its key, and its CBC modes notice no
// change of the ciphertext at all. It is here to share data with Ruby, not to be
// chosen.
//
// All errors are those of package kmsencrypted: ErrConfig for a mistake in key
// and options, ErrDecrypt and ErrMalformed for what was read.
package attrencrypted
