// Package blindindex makes encrypted columns searchable for equal values. Beside
// the ciphertext lies an index column that holds a keyed hash of the value: to
// find a value, hash it and look for the hash. It writes and searches the
// columns of Ruby's blind_index 2.8.1 byte for byte, with the same keys, and goes
// on where that ends: truncated indexes with a planner, values spread over
// several hashes, prefix search, look-ups while an index is being rotated, and
// filling on all processors.
//
// # Use
//
// An [Index] is built once from the master key, the table and the index column,
// and serves the whole process:
//
//	masterKey, err := blindindex.MasterKeyFromEnv() // BLIND_INDEX_MASTER_KEY
//	emails, err := blindindex.Derive(masterKey, "users", "email_bidx", blindindex.Options{
//		Expression: blindindex.Lower,
//	})
//
//	column, err := emails.Compute("Ada@example.org") // goes into the row
//	lookup, err := emails.Lookup("ada@example.org")  // WHERE email_bidx IN (lookup.Args()...)
//
// A [Column] is text, bytes or NULL and passes through database/sql by itself.
// Open the rows that a look-up finds and compare: an expression or a truncated
// index finds others too, and whoever can write to the database can change an
// index column.
//
// # What an index tells
//
// Whoever reads the table without the key sees which rows hold equal values, how
// often each occurs, and which are NULL. A value whose frequency is known is
// thereby found; [Propose] says in numbers what a column would tell and how wide
// an index is needed, [Options.Bits] and [Options.Partitions] make it tell less.
// Whoever has the key besides can test guesses, each at the cost of one hash:
// that is why the default is slow, and why [HMAC] is for values that cannot be
// guessed.
//
// # Values
//
// What is hashed is the text that Ruby's to_s gives ([PlaintextOf]): 123 and
// "123" are equal. NULL stays NULL; the empty text has an index. Bytes are
// hashed as they are, valid UTF-8 or not, of any length, without normalisation
// or case folding; an [Expression] may do that, and the ready ones refuse text
// that is not valid UTF-8 with [ErrValue]. Package unicodeform has those that
// need the Unicode tables of golang.org/x/text.
//
// # Differences from blind_index
//
// The bytes are the same. Two things are noticed earlier: a wrong key or option
// fails when the Index is made, not at the first value that is not nil. And
// insecure_key beside an algorithm other than PBKDF2, which the gem ignores, is
// refused.
package blindindex
