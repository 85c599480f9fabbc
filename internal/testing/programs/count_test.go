package programs

import (
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

// counts is what programs did.
type counts struct {
	programs, steps, values int
	// done and refused count calls, by what they did.
	done, refused map[string]int
	reasons       map[string]int
}

func newCounts() *counts {
	return &counts{done: map[string]int{}, refused: map[string]int{}, reasons: map[string]int{}}
}

func (c *counts) step(do string, err error) {
	switch {
	case errors.Is(err, errIdle):
		return
	case err == nil:
		c.done[do]++
	default:
		c.refused[do]++
		c.reasons[reason(err)]++
	}
	c.steps++
}

var reasons = map[string]error{
	"conflict": kmsencrypted.ErrConflict, "needs decrypt": kmsencrypted.ErrNeedsDecrypt, "needs rekey": kmsencrypted.ErrNeedsRekey,
	"not opened": kmsencrypted.ErrNotOpened, "configuration": kmsencrypted.ErrConfig, "lossy": kmsencrypted.ErrLossy,
	"no row": sql.ErrNoRows, "no id": kmsencrypted.ErrNoID, "unsealed": kmsencrypted.ErrUnsealed, "decrypt": kmsencrypted.ErrDecrypt,
}

func reason(err error) string {
	for _, name := range slices.Sorted(maps.Keys(reasons)) {
		if errors.Is(err, reasons[name]) {
			return name
		}
	}
	return "the database"
}

func (c *counts) String() string {
	return fmt.Sprintf("programs: %d run, %d steps, %d values read back; acknowledged: %s; refused: %s; because of: %s",
		c.programs, c.steps, c.values, list(c.done), list(c.refused), list(c.reasons))
}

func list(m map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, m[name]))
	}
	return strings.Join(parts, ", ")
}
