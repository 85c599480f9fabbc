// Package concern marks errors of providers that the general rules of package
// kmsencrypted would judge wrongly, without a name in that package for each.
package concern

import "errors"

// Later returns a sentinel for a call that may succeed later without a change,
// although the key service is well: kmsencrypted.Retryable returns true for it.
func Later(text string) error { return &later{text} }

type later struct{ text string }

func (e *later) Error() string { return e.text }

// IsLater reports whether there is a sentinel of [Later] in err.
func IsLater(err error) bool {
	_, ok := errors.AsType[*later](err)
	return ok
}

// Some marks an error that concerns some records of a version and not all of them,
// as that of one branch among many: kmsencrypted.ConcernsAll returns false for it.
func Some(err error) error { return &some{err} }

type some struct{ error }

func (e *some) Unwrap() error { return e.error }

// IsSome reports whether there is a mark of [Some] in err.
func IsSome(err error) bool {
	_, ok := errors.AsType[*some](err)
	return ok
}

// All returns a sentinel for a call that fails for every record of a version, until
// somebody changes something: kmsencrypted.ConcernsAll returns true for it.
func All(text string) error { return &all{text} }

type all struct{ text string }

func (e *all) Error() string { return e.text }

// IsAll reports whether there is a sentinel of [All] in err.
func IsAll(err error) bool {
	_, ok := errors.AsType[*all](err)
	return ok
}
