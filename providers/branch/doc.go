// Package branch wraps the data keys of records under branch keys: one call to the key
// service for each branch and minute instead of one for each record.
//
// It weakens the audit trail and the separation of writers from readers. Decide
// whether that suits you before you read on:
//
//   - The key service logs one line for each branch, process and MaxAge, not one for each
//     record. The Box's Observer still gets an event for each record, with the branch in
//     [kmsencrypted.Event].KeyVersion: keep these if you need the detail.
//   - Whoever may write under a branch can read all of it, because a branch key is
//     symmetric. Versions that are EncryptOnly are refused. Servers that may only write
//     need a version whose provider is the key service itself.
//   - The memory of a process exposes every branch that it has open, not only the records
//     that it read.
//
// # How keys lie
//
//	record's data key --AES-256-GCM--> branch key --Box--> AWS KMS, Google Cloud KMS or Vault
//
// A branch is a group of records: those of a tenant, a table, a month. Its key is a random
// one, kept in a row of a key store and wrapped by an ordinary Box, so it can be moved to
// another key service like every other key column. A thousand branches take a thousand calls,
// however many records there are.
//
//	store, err := branch.NewSQL(db, field.Postgres) // db: a pool of its own
//	…
//	keys, err := branch.Open(ctx, store, kms, branch.Options{Of: branch.ByPair("tenant")})
//	…
//	box, err := kmsencrypted.NewBox(keys)
//
// The provider is for native versions only.
//
// # Revoking
//
// A key that was disabled at the key service, or erased, still opens in processes that have it open:
// for at most MaxAge, plus StaleFor while the service cannot be reached, plus the MaxAge of the
// Box's own cache if it has one, plus the time for which the program holds opened records. A refusal is not an
// outage: it ends the use of a branch at MaxAge.
//
// # Erasing
//
// [Provider.Erase] destroys the keys of a tenant or a person, and with them everything that is under
// the branch, in backups of the records too. It needs [Receipts], which make a key store that is restored from a
// backup refuse every use until [Provider.Replay].
//
// # The database
//
// The first key of a branch is committed before anything is wrapped under it, never inside the
// caller's transaction. So the key store needs a connection pool of its own: in a pool that is
// exhausted by transactions, each of which waits for a branch key, nothing would go on. Every
// access ends after [Options].StoreTimeout with [kmsencrypted.ErrUnavailable]. On SQLite, which has one writer
// at a time, keep the key store in a file of its own or call [Provider.Ensure] before.
//
// A server needs the rights SELECT on the tables of the key store, and INSERT where it creates
// branches. It never needs UPDATE or DELETE; erasing needs UPDATE. Somebody who may encrypt at the key
// service and insert here could add a version with a key that they know. So servers should set
// [Options].NoCreate, and an operator's role should call Ensure and Renew.
//
// spec/branch.md specifies the bytes.
package branch
