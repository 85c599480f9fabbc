package rotatecli

import (
	"cmp"
	"context"
	"errors"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// failureRemedies say what to do about failures of a class: see [rotation.FailureClass].
// docs/rotation-runbook.md has more. Commands are in backquotes, for the page.
var failureRemedies = map[string]string{
	"version-not-active": "List the version in the program, then `rotate run`.",
	"version-retired":    "Lower the minimum version in this program only, `rotate run`, and raise it again.",
	"needs-rekey":        "The format changes: `rotate run --kind rekey`.",
	"no-data-key":        "The record has encrypted values and no key: `inspect --table T --id ID`, and restore the row from a backup.",
	"other-data-key":     "A writer did not compare the key column: stop it, then `rotate heal --dry-run` and `rotate heal`.",
	"not-ciphertext":     "The column holds what was never encrypted: encrypt it, or declare the column independent.",
	"binding":            "Moved from another record, or the context changed: `inspect --table T --id ID`, and restore the row from a backup.",
	"record-seal":        "A column was changed without the library: `inspect --table T --id ID`, and restore the row from a backup.",
	"malformed":          "Damaged: `inspect --table T --id ID`, and restore the row from a backup.",
	"type":               "The column holds a value of another type than the model declares: correct the model.",
	"context":            "The encryption context cannot be made of the record: correct the column that it reads, or the function that makes it.",
	"no-id":              "The record has no primary key that names it: correct the row.",
	"key-unusable":       "The key, or this version of it, is disabled or deleted: `doctor`, enable it, then `rotate run`.",
	"not-migrated":       "The new column is not filled: `rotate run --kind migrate --writers-are-ours`.",
	"stale-index":        "Searches miss the record: `rotate run --kind reindex`.",
	"decrypt":            "Damaged, or under another key or context: `inspect --table T --id ID`; after a rewrap to another service also `rotate heal --dry-run`.",
	"denied":             "The key service refuses: `doctor`, restore the permission, then `rotate run`.",
	"throttled":          "The key service throttles: `rotate run` later, with a smaller --kms-rate.",
	"unavailable":        "The key service does not answer: `doctor`, then `rotate run` later.",
	"conflict":           "An application rewrites these records all the time: `rotate run` when it is quieter.",
	"database":           "The database did not keep what was sent: remove the trigger, policy or limit that `rotate status --failures` names, then `rotate run`.",
}

func remedyFor(class string) string {
	return cmp.Or(failureRemedies[class], "`rotate status --failures` has the reason.")
}

// classInWords is what kind of error a key service returned.
func classInWords(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return rotation.FailureClass(err)
}

// advice says what to type next about a run, or nothing.
func advice(st tableStatus) string {
	switch {
	case st.last.State == rotation.RunPaused:
		return "Nothing is written until it is resumed, here or by `rotate resume`. Then `rotate run` goes on where it stopped."
	case st.unfinished && st.Working == 0:
		return "Nobody is at work: type `rotate run`, which goes on where it stopped. If a process has died, others take over its shards after 30 s."
	}
	return ""
}
