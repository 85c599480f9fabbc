package attach_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// A sweep that the database ends because of a deadlock is tried again.
func TestSweepAfterDeadlockMariaDB(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mariadb, func(c *attach.Config) { c.Grace = time.Hour })
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for _, object := range []string{"first", "second"} {
		w.exec(t, "INSERT INTO kms_attachment_objects (bucket, object, state, until) VALUES ('main', ?, 'pending', 0)", object)
	}
	deadlocks := func() (n int) {
		var name string
		must(t, w.db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'").Scan(&name, &n))
		return n
	}
	before := deadlocks()
	tx, err := w.db.BeginTx(ctx, nil)
	must(t, err)
	defer tx.Rollback()
	for i := range 50 { // the database ends the transaction that wrote less
		_, err := tx.ExecContext(ctx, "INSERT INTO kms_attachment_objects (bucket, object, state, until) VALUES ('other', ?, 'doomed', 0)", fmt.Sprint(i))
		must(t, err)
	}
	_, err = tx.ExecContext(ctx, "UPDATE kms_attachment_objects SET until = 1 WHERE bucket = 'main' AND object = 'second'")
	must(t, err)
	swept := make(chan error, 1)
	var result attach.Swept
	go func() {
		var err error
		result, err = w.manager.Sweep(ctx)
		swept <- err
	}()
	// The sweep has the first row and waits for the second. What the table says is renewed
	// only if nobody has read it for 100 ms.
	for waiting := 0; waiting == 0; time.Sleep(200 * time.Millisecond) {
		must(t, w.db.QueryRowContext(ctx, "SELECT count(*) FROM information_schema.innodb_trx x JOIN information_schema.processlist p ON p.id = x.trx_mysql_thread_id WHERE p.db = DATABASE() AND x.trx_state = 'LOCK WAIT'").Scan(&waiting))
	}
	_, err = tx.ExecContext(ctx, "UPDATE kms_attachment_objects SET until = 1 WHERE bucket = 'main' AND object = 'first'")
	must(t, err)
	must(t, tx.Commit())
	if err := <-swept; err != nil || result.GivenUp != 2 {
		t.Errorf("Sweep = %+v, %v, want two uploads given up", result, err)
	}
	if deadlocks() == before {
		t.Error("there was no deadlock")
	}
}
