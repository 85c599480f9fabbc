// Package blindindex makes encrypted columns searchable for equal values. An
// index column next to the ciphertext holds a keyed hash of the value. To find a
// value, hash it and search for the hash. The package writes and searches the
// columns of Ruby's blind_index 2.8.1 byte for byte, with the same keys. It adds
// truncated indexes with a planner, values spread over several hashes, prefix
// search, look-ups during the rotation of an index, and filling on all
// processors.
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
// A [Column] is text, bytes or NULL; database/sql accepts it. Open the rows that
// a look-up finds and compare them: an expression or a truncated index finds
// other rows too, and somebody who can write to the database can change an index
// column.
//
// # What an index reveals
//
// Somebody who can read the table but has no key sees which rows hold equal
// values, how often each value occurs, and which rows are NULL. A value of known
// frequency can be identified by that. [Propose] shows in numbers what a column
// reveals and how wide an index needs to be. [Options.Bits] and
// [Options.Partitions] make it reveal less. Somebody who also has the key can
// test guesses, each at the cost of one hash. That is why the default is slow,
// and why [HMAC] is only for values that cannot be guessed.
//
// # Values
//
// The index hashes the text that Ruby's to_s returns ([PlaintextOf]): 123 and
// "123" are equal. NULL stays NULL; the empty text has an index. Bytes are hashed
// as they are, valid UTF-8 or not, of any length, without normalisation or case
// folding. An [Expression] can add these; the predefined ones refuse text that is
// not valid UTF-8 with [ErrValue]. Package unicodeform has the expressions that
// need the Unicode tables of golang.org/x/text.
//
// # Differences from blind_index
//
// The bytes are the same. Two errors are reported earlier. A wrong key or option
// fails when the Index is created, not at the first value that is not nil.
// insecure_key with an algorithm other than PBKDF2, which the gem ignores, is
// refused.
package blindindex
