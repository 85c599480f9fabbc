package kmsencrypted

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/concern"
)

// Errors to check with [errors.Is]. The text of each includes the remedy if there is one.
// All failed authentications give the same error, whatever failed inside.
var (
	// Errors of a key-encryption key or its service.

	// ErrDecrypt reports a ciphertext that does not open: the key or the context is wrong,
	// or the bytes were changed.
	ErrDecrypt = errors.New("does not decrypt: wrong key, wrong context or changed bytes")
	// ErrDenied reports that the service knows the caller and refuses. Not retryable.
	ErrDenied = errors.New("permission denied by the key service")
	// ErrThrottled reports that the quota is exhausted for the moment. Retryable.
	ErrThrottled = errors.New("throttled by the key service")
	// ErrUnavailable reports that the service did not answer, or answered that it cannot at
	// the moment. Retryable.
	ErrUnavailable = errors.New("key service unavailable")
	// ErrKeyUnusable reports that the key-encryption key is missing, disabled or about to be
	// deleted.
	ErrKeyUnusable = errors.New("key-encryption key is missing or disabled")
	// ErrTooLarge reports more bytes than the service or the format accepts.
	ErrTooLarge = errors.New("too large")

	// Errors of versions and contexts.

	// ErrVersionNotActive reports a column with a version that the Box does not list.
	ErrVersionNotActive = errors.New("version not active: list it in Config.Versions to read it")
	// ErrVersionRetired reports a column with a version below Config.MinVersion.
	ErrVersionRetired = errors.New("version retired")
	// ErrContext reports an invalid encryption context, for example one with a value that is
	// neither string nor integer.
	ErrContext = errors.New("invalid encryption context")
	// ErrNoID reports a record without a primary key, which the default context and the
	// binding need.
	ErrNoID = errors.New("record has no id yet: assign it before sealing, or declare a context without it")
	// ErrConfig reports an error in a Config, a Version or a model's tags, found before the
	// first record.
	ErrConfig = errors.New("invalid configuration")

	// Errors of the content of a column.

	// ErrMalformed reports bytes that are not in the format of their version.
	ErrMalformed = errors.New("malformed ciphertext")
	// ErrNotCiphertext reports a column that contains something else, perhaps plaintext.
	ErrNotCiphertext = errors.New("not a ciphertext: the column may hold plaintext")
	// ErrOtherDataKey reports a value that was sealed under another data key than the record
	// has now.
	ErrOtherDataKey = errors.New("sealed under another data key")
	// ErrBinding reports a data key that opened, but belongs to another table, column,
	// record or context.
	ErrBinding = errors.New("data key belongs to another record or context")
	// ErrType reports a column that opened, but whose plaintext is not of the type that the
	// program declares.
	ErrType = errors.New("plaintext is not of the column's type")
	// ErrRecordSeal reports that the encrypted columns are not those that were last written
	// together.
	ErrRecordSeal = errors.New("record seal does not match: a column was set back, emptied or exchanged")
	// ErrNoDataKey reports a record with ciphertexts whose key column is NULL.
	ErrNoDataKey = errors.New("key column is NULL beside a ciphertext")
	// ErrAlreadyEncrypted reports a value to encrypt that is already a ciphertext of this
	// record.
	ErrAlreadyEncrypted = errors.New("value is already a ciphertext of this record")
	// ErrStaleIndex reports a blind index that does not match its fields, so that searches
	// miss the record. A rotation of the kind rotation.Reindex computes it again.
	ErrStaleIndex = errors.New("blind index is not that of the value: reindex")
	// ErrNotMigrated reports a column that is not filled from the one it replaces, or
	// differs from it.
	ErrNotMigrated = errors.New("column is not filled from the one that it replaces, or differs from it")

	// Errors in the use of a field.

	// ErrLossy: the value cannot be kept as it is. Its type gives no text or JSON for
	// it, or reads another value from what it gives; or the database has a primary key,
	// or a column of the encryption context, in another spelling, for which the row would
	// not open. Nothing was written.
	ErrLossy = errors.New("value would not come back as it is")
	// ErrUnsealed: a plaintext was about to be written to a database. Seal the record first.
	ErrUnsealed = errors.New("plaintext was not sealed: seal the record before writing it")
	// ErrNotOpened reports that the plaintext was requested before the record was opened.
	ErrNotOpened = errors.New("field is not opened: open the record first")
	// ErrNotLoaded reports a column that was neither read nor set.
	ErrNotLoaded = errors.New("field was neither read nor set")
	// ErrNeedsDecrypt reports a change that is impossible without opening the record's data
	// key.
	ErrNeedsDecrypt = errors.New("needs permission to decrypt; where the version is EncryptOnly, set every field under the key on a model that declares itself complete")
	// ErrNeedsRekey reports a change of format, which needs a new data key and every column
	// sealed again.
	ErrNeedsRekey = errors.New("a change of format needs a rekey, not a rewrap")
	// ErrNeedsFiles reports that the record may have attached files under its data key,
	// which a new data key would lose.
	ErrNeedsFiles = errors.New("needs the manager of attached files: rekey through a rotation that knows it")
	// ErrConflict reports that the row changed between reading and writing it. Reload and
	// try again.
	ErrConflict = errors.New("row was changed by somebody else: reload it and try again")
	// ErrWiped reports that the data key was wiped.
	ErrWiped = errors.New("data key was wiped")
	// ErrCached reports that the data key is from the cache of the Box, which keeps no key
	// bytes under a native version. [DataKey.Fresh] unwraps it again.
	ErrCached = errors.New("data key is from the cache and has no bytes: ask for a fresh one")
)

// Error says where something failed: the operation, the key and its version, and for a
// record its table, id and column. It never contains a plaintext, key bytes or a token.
//
// Err is the error for [errors.Is], a sentinel of this package if one fits. Cause is the
// error of the service or codec, or nil.
type Error struct {
	Op       string // "wrap", "unwrap", "seal", "open", …
	Provider string // "aws", "vault", …; empty if no provider was involved
	KeyID    string // the key-encryption key as configured
	Version  int    // of the key column; 0 if unknown
	Record   string // "customers id=7"
	Column   string // "email_ciphertext"
	Err      error
	Cause    error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("kmsencrypted: ")
	b.WriteString(e.Op)
	for _, part := range []struct{ before, text string }{
		{" ", e.Record}, {" column ", e.Column}, {" with ", e.Provider}, {" key ", e.KeyID},
	} {
		if part.text != "" {
			b.WriteString(part.before + part.text)
		}
	}
	if e.Version != 0 {
		fmt.Fprintf(&b, " version %d", e.Version)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	return b.String()
}

// Unwrap makes both the sentinel and the cause visible to [errors.Is] and [errors.As].
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Cause}
}

// Retryable reports whether the same call may succeed later without a change: the key
// service throttled or was unavailable, or the row of a branch key is missing (package
// providers/branch).
func Retryable(err error) bool {
	return errors.Is(err, ErrThrottled) || errors.Is(err, ErrUnavailable) || concern.IsLater(err)
}

// ConcernsAll reports whether an error of one record will occur for every other record under
// the same key too, so that continuing is pointless: permission was denied, or the key store
// of branch keys was restored from a backup (package providers/branch). A key that
// cannot be used does not count, because services disable single versions of a key. Nor
// does a branch key that the service denies: other branches have other keys.
func ConcernsAll(err error) bool {
	return (errors.Is(err, ErrDenied) || concern.IsAll(err)) && !concern.IsSome(err)
}

// located adds key and version to an error of a provider.
func located(op Op, provider Provider, version int, err error) error {
	info := provider.Info()
	e := &Error{Op: string(op), Provider: info.Provider, KeyID: info.KeyID, Version: version, Err: err}
	if known, ok := errors.AsType[*Error](err); ok {
		e.Err, e.Cause = known.Err, known.Cause
	}
	return e
}
