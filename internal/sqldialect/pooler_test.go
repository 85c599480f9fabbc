package sqldialect_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// told is an error of PostgreSQL with its text.
type told struct{ state, text string }

func (t told) Error() string    { return t.text }
func (t told) SQLState() string { return t.state }

// The texts are those of PostgreSQL 15 and pgbouncer 1.18.
func TestExplained(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		told{"26000", `ERROR: prepared statement "stmtcache_1" does not exist`}:                            true,
		told{"42P05", `ERROR: prepared statement "stmtcache_1" already exists`}:                            true,
		told{"08P01", "ERROR: bind message supplies 1 parameters, but prepared statement \"\" requires 2"}: true,
		told{"08P01", "FATAL: server login failed"}:                                                        false,
		told{"42P01", `ERROR: relation "people" does not exist`}:                                           false,
		errors.New("Error 1146 (42S02): Table 'people' doesn't exist"):                                     false,
	} {
		wrapped := fmt.Errorf("read: %w", err)
		got := sqldialect.Explained(wrapped)
		if said := strings.Contains(got.Error(), "set default_query_exec_mode to exec"); said != want || sqldialect.IsPooled(wrapped) != want || !errors.Is(got, err) {
			t.Errorf("Explained(%v) = %v, IsPooled = %t, want a remedy: %t", err, got, sqldialect.IsPooled(wrapped), want)
		}
		if again := sqldialect.Explained(fmt.Errorf("run: %w", got)); strings.Count(again.Error(), "default_query_exec_mode") > 1 {
			t.Errorf("explained twice: %v", again)
		}
	}
	if sqldialect.Explained(nil) != nil || sqldialect.IsPooled(nil) {
		t.Error("nil is explained")
	}
}
