package kmspgx_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
)

// Behind PgBouncer in transaction mode the whole suite runs in the modes that the
// package comment names.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			runSuite(t, dbserver.PgBouncer(t), mode)
		})
	}
}

// In the default mode pgx prepares statements, which are not there on the next
// connection: the error says what to do.
func TestPgBouncerDefaultMode(t *testing.T) {
	t.Parallel()
	dsn := dbserver.PgBouncer(t)
	e := &env{connect(t, dsn, pgx.QueryExecModeExec), "customers"}
	s := e.customers(t)
	all := s.insert(t, 16)
	e.db = connect(t, dsn, pgx.QueryExecModeCacheStatement)

	const remedy = "default_query_exec_mode"
	var mutex sync.Mutex
	refused := make(map[string]int)
	note := func(op string, err error) {
		if err == nil || errors.Is(err, pgx.ErrNoRows) {
			return
		}
		wantError(t, op, err)
		mutex.Lock()
		defer mutex.Unlock()
		refused[op]++
		if !strings.Contains(err.Error(), remedy) {
			t.Errorf("%s: %v, want what to set", op, err)
		}
	}
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			for round := range 8 {
				rows, _ := kmspgx.Query(t.Context(), e.db, "SELECT * FROM customers WHERE id = $1", all[i].ID)
				_, err := kmspgx.CollectOneRow(t.Context(), rows, s.Model)
				note("read", err)
				all[i].Email.Set(email(100 + round))
				note("update", kmspgx.Update(t.Context(), e.db, s.Model, &all[i]))
				c := customer{Name: all[i].Name + strings.Repeat("+", round+1), Email: field.New(email(i))}
				var b kmspgx.Batch
				kmspgx.QueueInsert(&b, s.Model, &c)
				note("batch", b.Send(t.Context(), e.db))
			}
		})
	}
	wg.Wait()
	for _, op := range []string{"read", "update", "batch"} {
		if refused[op] == 0 {
			t.Errorf("%s: PgBouncer refused nothing, so that this test shows nothing", op)
		}
	}
}
