package field

import (
	"fmt"
	"strings"
)

// Failures are the errors of some records among many, with their indexes. The other
// records succeeded, except in a call that says that it does all or nothing.
type Failures []Failure

// Failure is the error of one record.
type Failure struct {
	Index int // of the record in the call
	Err   error
}

func (f Failures) Error() string {
	const shown = 3
	texts := make([]string, 0, shown+1)
	for i, failure := range f {
		if i == shown {
			texts = append(texts, fmt.Sprintf("and %d more", len(f)-shown))
			break
		}
		texts = append(texts, fmt.Sprintf("index %d: %v", failure.Index, failure.Err))
	}
	noun := "records"
	if len(f) == 1 {
		noun = "record"
	}
	return fmt.Sprintf("%d %s failed: %s", len(f), noun, strings.Join(texts, "; "))
}

// Unwrap returns all errors, for [errors.Is] and [errors.As].
func (f Failures) Unwrap() []error {
	errs := make([]error, len(f))
	for i, failure := range f {
		errs[i] = failure.Err
	}
	return errs
}

// failures returns the errors of records in order, or nil without errors. The
// error of a single record is returned as it is.
func failures(records []recordWork) error {
	var f Failures
	for i := range records {
		if err := records[i].err; err != nil {
			f = append(f, Failure{Index: i, Err: err})
		}
	}
	switch {
	case len(f) == 0:
		return nil
	case len(records) == 1:
		return f[0].Err
	}
	return f
}
