// Package kmsencrypted encrypts columns and files under a data key per record,
// which a key management service wraps. It reads and writes the data of the Ruby
// gems kms_encrypted, Lockbox, attr_encrypted and blind_index byte for byte.
//
// # The idea
//
// A record has one random 32-byte data key ([DataKey]). A [Provider] (AWS KMS,
// Google Cloud KMS, Vault or OpenBao, a local key file, the insecure test key)
// wraps it under the record's [EncryptionContext], so that the service's audit log
// shows every decryption with the record's name. The wrapped key is text in one
// column, such as "v2:AQ…". The record's columns and files are sealed with the data
// key and bound to their place.
//
// A [Version] combines provider, context and format. Moving to another key, another
// service, another context or from Ruby's formats to the native one is one
// operation: list a new version in [Config], make it current, rotate.
//
// # Where to begin
//
// For columns of a table use package field, whose models seal and open structs:
//
//	box, err := kmsencrypted.NewBox(provider)
//	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
//	err = customers.Seal(ctx, &customer) // before writing the row
//	err = customers.Open(ctx, &customer) // after reading it
//
// For a small secret outside any table use the [Box] itself:
//
//	column, err := box.Encrypt(ctx, token, kmsencrypted.Context{"purpose": "webhook"})
//	token, err = box.Decrypt(ctx, column, kmsencrypted.Context{"purpose": "webhook"})
//
// Package kmssqlx inserts, reads and updates whole rows with jmoiron/sqlx. Package
// files/attach attaches files to them. Package rotation moves all records of a
// table to the current version; package rotatecli makes a command line of it.
//
// # Keys and memory
//
// Data keys and plaintexts print as "[redacted]" everywhere. [DataKey.Wipe]
// overwrites a key. Copies made by Go's runtime, and the expanded key inside a
// cipher, stay in memory until they are collected. See docs/threat-model.md.
//
// # Errors
//
// Use [errors.Is] with the Err variables to check for a failure. [*Error] contains
// the place. [Retryable] reports whether a retry may help.
//
// The formats are specified in the folder spec, with test vectors.
package kmsencrypted
