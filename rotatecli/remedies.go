package rotatecli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
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

// keyRemedies say what to do about a key service that is not in order, by classInWords.
var keyRemedies = map[string]string{
	"denied":             "Has the token or role expired, or lost a right? `policy` prints the least rights that each role needs.",
	"throttled":          "Lower the rate of the run, `rotate run --kms-rate N`, or raise the quota.",
	"unavailable":        "Is the service up, and reachable from this machine?",
	"no answer in time":  "Is the service up, and reachable from this machine?",
	"key-unusable":       "Enable the key, or this version of it. If it was deleted, only a backup of the key helps.",
	"version-not-active": "List the version in the program.",
}

// advice says what to do about a run, or nothing.
func advice(st tableStatus) string {
	switch {
	case st.unfinished && st.last.Target != st.Target:
		return fmt.Sprintf("This program writes version %d, and the run goes to %d: finish it with a program that writes %[2]d, or `rotate cancel`.", st.Target, st.last.Target)
	case st.last.State == rotation.RunPaused:
		return "Nothing is written until it is resumed, here or by `rotate resume`. Then `rotate run` goes on where it stopped."
	case st.unfinished && st.Working == 0:
		return "Nobody is at work. `rotate run` goes on where it stopped, or prints why it cannot; `doctor` tries the keys. If a process has died, others take over its shards after 30 s."
	case st.unfinished && strings.Contains(st.Waiting, kmsencrypted.ErrUnavailable.Error()):
		return "It tries again for a while. `doctor`, or an examination below, tries the keys."
	case st.unfinished && strings.Contains(st.Waiting, kmsencrypted.ErrThrottled.Error()):
		return "It tries again, more slowly. To spare the service, interrupt it and type `rotate run --kms-rate N`."
	}
	return ""
}
