package attach_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/race"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// In the middle of each operation the database, the store or the key service fails
// three times, at every call in turn; every second lost COMMIT was carried out. After
// the sweep every file reads back, none is lost and none left behind.
//
// Each database takes another third of the calls, or all of them with
// KMSENCRYPTED_EVERY_CALL.
func TestOutagePostgresMariaDBSQLite(t *testing.T) {
	t.Parallel()
	for first, of := range []struct {
		name string
		database
	}{{"SQLite", sqlite}, {"Postgres", postgres}, {"MariaDB", mariadb}} {
		t.Run(of.name, func(t *testing.T) {
			t.Parallel()
			step := 3
			switch {
			case os.Getenv("KMSENCRYPTED_EVERY_CALL") != "":
				first, step = 0, 1
			case race.Detector:
				step = 9 // every call takes ten minutes
			}
			testOutage(t, of.database, first+1, step)
		})
	}
}

func testOutage(t *testing.T, d database, first, step int) {
	dir, dsn := t.TempDir(), d.dsn(t)
	w := killedWorld(t, d, dsn, dir, nil)
	for id := range int64(2) {
		c := w.insert(t, id+1)
		w.attach(t, c, "license", fileOf(uint64(id+1)))
		w.attach(t, c, "scans", fileOf(uint64(id+11)))
	}
	failed := make(map[string]int)
	for round := first; ; round += step {
		done := 0
		for name, do := range outageScenarios {
			before := idsOf(t, w)
			s := new(steps)
			s.outage = 3
			s.left.Store(1 << 40)
			bad := killedWorld(t, d, dsn, dir, s)
			bad.keys.Set(kmstest.Before(func(context.Context) error { return s.step() }))
			s.left.Store(int64(round))
			err := do(t.Context(), bad, round)
			if left := s.left.Load(); left > 0 {
				done++ // it makes fewer calls than this
			}
			if err != nil {
				failed[name]++
			}
			must(t, bad.db.Close())
			if name == "delete" || name == "replace" { // which deletes what was derived
				before = idsOf(t, w)
			}
			if licenses := w.count(t, "SELECT count(*) FROM kms_attachments WHERE name = 'license' AND variant = ''"); licenses != 2 {
				t.Errorf("round %d, %s: %d licenses, want 2", round, name, licenses)
			}
			w.checkAfterKill(t, round, dir, before)
		}
		if done == len(outageScenarios) {
			break
		}
	}
	t.Logf("errors: %v", failed)
	for name := range outageScenarios {
		if failed[name] < max(1, 5/step) {
			t.Errorf("%s failed %d times only", name, failed[name])
		}
	}
}

// committed attaches what an operation made.
func (w *world) committed(ctx context.Context, p *attach.Pending[customer], err error) error {
	if err != nil {
		return err
	}
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := p.Commit(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// withLicense does something with the license of record 1.
func withLicense(ctx context.Context, w *world, do func(c *customer, a *attach.Attachment) error) error {
	var c customer
	err := w.db.QueryRowContext(ctx, "SELECT id, name, encrypted_kms_key, email_ciphertext FROM customers WHERE id = 1").Scan(&c.ID, &c.Name, &c.Key, &c.Email)
	if err != nil {
		return err
	}
	a, err := w.manager.Get(ctx, &c, "license")
	if err != nil {
		return err
	}
	return do(&c, a)
}

var outageScenarios = map[string]func(ctx context.Context, w *world, round int) error{
	"upload": func(ctx context.Context, w *world, round int) error {
		return withLicense(ctx, w, func(c *customer, _ *attach.Attachment) error {
			p, err := w.manager.Upload(ctx, c, "scans", bytes.NewReader(fileOf(uint64(100+round))), attach.Options{})
			return w.committed(ctx, p, err)
		})
	},
	"replace": func(ctx context.Context, w *world, round int) error {
		return withLicense(ctx, w, func(c *customer, a *attach.Attachment) error {
			p, err := w.manager.Replace(ctx, c, a, bytes.NewReader(fileOf(uint64(200+round))), attach.Options{})
			return w.committed(ctx, p, err)
		})
	},
	"derive, reencrypt": func(ctx context.Context, w *world, round int) error {
		return withLicense(ctx, w, func(c *customer, a *attach.Attachment) error {
			p, err := w.manager.Derive(ctx, c, a, fmt.Sprint("v", round), attach.Options{}, func(dst io.Writer, src *attach.File) error {
				_, err := io.Copy(dst, src)
				return err
			})
			if err := w.committed(ctx, p, err); err != nil {
				return err
			}
			_, err = w.manager.Reencrypt(ctx, a, nil)
			return err
		})
	},
	"rekey": func(ctx context.Context, w *world, round int) error {
		return withLicense(ctx, w, func(c *customer, _ *attach.Attachment) error {
			tx, err := w.db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if err := w.manager.Rekey(ctx, tx, c); err != nil {
				return err
			}
			return tx.Commit()
		})
	},
	"delete": func(ctx context.Context, w *world, round int) error {
		return withLicense(ctx, w, func(c *customer, _ *attach.Attachment) error {
			list, err := w.manager.List(ctx, c, "scans")
			if err != nil || len(list) < 2 {
				return err
			}
			tx, err := w.db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if err := w.manager.Delete(ctx, tx, list[0]); err != nil {
				return err
			}
			if err := tx.Commit(); err != nil {
				return err
			}
			_, err = w.manager.Sweep(ctx)
			return err
		})
	},
	"in parts": func(ctx context.Context, w *world, round int) error {
		return withLicense(ctx, w, func(c *customer, _ *attach.Attachment) error {
			return w.attachInParts(ctx, c, fileOf(uint64(500+round)))
		})
	},
}
