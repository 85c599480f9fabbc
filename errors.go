package kmsencrypted

import (
	"errors"
	"fmt"
	"strings"
)

// What went wrong, to be asked with [errors.Is]. The text of each says what to
// do next where that is known. Failed authentication is one error, whatever
// failed inside.
var (
	// A key-encryption key or its service.

	// ErrDecrypt: the ciphertext does not open. The key or the context is
	// another one, or the bytes were changed.
	ErrDecrypt = errors.New("does not decrypt: wrong key, wrong context or changed bytes")
	// ErrDenied: the service knows the caller and refuses. Not retryable.
	ErrDenied = errors.New("permission denied by the key service")
	// ErrThrottled: the quota is used up for the moment. Retryable.
	ErrThrottled = errors.New("throttled by the key service")
	// ErrUnavailable: no answer, or an answer that promises better times. Retryable.
	ErrUnavailable = errors.New("key service unavailable")
	// ErrKeyUnusable: the key-encryption key is missing, disabled or about to be deleted.
	ErrKeyUnusable = errors.New("key-encryption key is missing or disabled")
	// ErrTooLarge: more bytes than the service or the format takes.
	ErrTooLarge = errors.New("too large")

	// Versions and contexts.

	// ErrVersionNotActive: a column names a version that the Box does not list.
	ErrVersionNotActive = errors.New("version not active: list it in Config.Versions to read it")
	// ErrVersionRetired: a column names a version below Config.MinVersion.
	ErrVersionRetired = errors.New("version retired")
	// ErrContext: the encryption context cannot be used, for instance because of a value that is neither string nor integer.
	ErrContext = errors.New("invalid encryption context")
	// ErrNoID: the default context and the binding of a record need its primary key.
	ErrNoID = errors.New("record has no id yet: assign it before sealing, or declare a context without it")
	// ErrConfig: a mistake in a Config, a Version or a model's tags, found before the first record.
	ErrConfig = errors.New("invalid configuration")

	// What lies in a column.

	// ErrMalformed: the bytes are not in the format that the version announces.
	ErrMalformed = errors.New("malformed ciphertext")
	// ErrNotCiphertext: the column holds something else, perhaps plaintext.
	ErrNotCiphertext = errors.New("not a ciphertext: the column may hold plaintext")
	// ErrOtherDataKey: the value was sealed under another data key than the record has now.
	ErrOtherDataKey = errors.New("sealed under another data key")
	// ErrBinding: the data key opened, but belongs to another table, column, record or context.
	ErrBinding = errors.New("data key belongs to another record or context")
	// ErrType: the column opened, but its plaintext is not of the type that the
	// program declares.
	ErrType = errors.New("plaintext is not of the column's type")
	// ErrRecordSeal: the encrypted columns are not the ones that were last written together.
	ErrRecordSeal = errors.New("record seal does not match: a column was set back, emptied or exchanged")
	// ErrNoDataKey: there are ciphertexts, but the key column is NULL.
	ErrNoDataKey = errors.New("key column is NULL beside a ciphertext")
	// ErrAlreadyEncrypted: the value to be encrypted is a ciphertext of this very record.
	ErrAlreadyEncrypted = errors.New("value is already a ciphertext of this record")
	// ErrStaleIndex: a blind index is not what its fields give, so that searches
	// miss the record. A rotation of the kind rotation.Reindex computes it anew.
	ErrStaleIndex = errors.New("blind index is not that of the value: reindex")
	// ErrNotMigrated: a column is not filled from the one that it replaces, or
	// differs from it.
	ErrNotMigrated = errors.New("column is not filled from the one that it replaces, or differs from it")

	// What a program did with a field.

	// ErrLossy: the value cannot be kept as it is. Its type gives no text or JSON for
	// it, or reads another value from what it gives; or the database has a primary key
	// in another spelling, for which the row would not open. Nothing was written.
	ErrLossy = errors.New("value would not come back as it is")
	// ErrUnsealed: a plaintext was about to be written to a database. Seal the record first.
	ErrUnsealed = errors.New("plaintext was not sealed: seal the record before writing it")
	// ErrNotOpened: the plaintext was asked for before the record was opened.
	ErrNotOpened = errors.New("field is not opened: open the record first")
	// ErrNotLoaded: the column was neither read nor set.
	ErrNotLoaded = errors.New("field was neither read nor set")
	// ErrNeedsDecrypt: the change cannot be made without opening the record's data key.
	ErrNeedsDecrypt = errors.New("needs permission to decrypt; where the version is EncryptOnly, set every field under the key on a model that declares itself complete")
	// ErrNeedsRekey: another format needs a new data key and every column sealed again.
	ErrNeedsRekey = errors.New("a change of format needs a rekey, not a rewrap")
	// ErrNeedsFiles: the record may have attached files under its data key, and a
	// new one would lose them.
	ErrNeedsFiles = errors.New("needs the manager of attached files: rekey through a rotation that knows it")
	// ErrConflict: the row changed between reading and writing it. Reload and try again.
	ErrConflict = errors.New("row was changed by somebody else: reload it and try again")
	// ErrWiped: the data key was wiped.
	ErrWiped = errors.New("data key was wiped")
	// ErrCached: the data key comes from the cache of the Box, which keeps no key
	// bytes under a native version. [DataKey.Fresh] unwraps it again.
	ErrCached = errors.New("data key is from the cache and has no bytes: ask for a fresh one")
)

// Error says where something failed: the operation, the key and its version,
// and for a record its table, id and column. It never holds a plaintext, key
// bytes or a token.
//
// Err is what [errors.Is] should find, one of this package's sentinels where
// one fits; Cause is the error of the service or codec below, nil if there is none.
type Error struct {
	Op       string // "wrap", "unwrap", "seal", "open", …
	Provider string // "aws", "vault", …; empty where no provider took part
	KeyID    string // the key-encryption key as configured
	Version  int    // of the key column; 0 where none is known
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

// Retryable reports whether the same call may succeed later without a change:
// the key service throttled or could not be reached.
func Retryable(err error) bool {
	return errors.Is(err, ErrThrottled) || errors.Is(err, ErrUnavailable)
}

// ConcernsAll reports whether an error of one record will meet every other
// record under the same key too, so that going on is pointless: permission was
// denied. A key that cannot be used is no such error, because services disable
// single versions of a key.
func ConcernsAll(err error) bool { return errors.Is(err, ErrDenied) }

// located adds key and version to an error of a provider.
func located(op Op, provider Provider, version int, err error) error {
	info := provider.Info()
	e := &Error{Op: string(op), Provider: info.Provider, KeyID: info.KeyID, Version: version, Err: err}
	if known, ok := errors.AsType[*Error](err); ok {
		e.Err, e.Cause = known.Err, known.Cause
	}
	return e
}
