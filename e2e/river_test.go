package e2e

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	kmsriver "github.com/kmsencrypted/kmsencrypted/river"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

const schema = "kms_jobs"

func init() { executors["river"] = runInRiver }

// startInRiver makes River's tables and starts the run.
func startInRiver(t testing.TB, n *table, r *rotation.Rotator) {
	t.Helper()
	n.exec(t, "CREATE SCHEMA IF NOT EXISTS "+schema)
	migrator, err := rivermigrate.New(riverpgxv5.New(n.pool), &rivermigrate.Config{Schema: schema, Logger: quiet})
	must(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	must(t, err)
	client, err := river.NewClient(riverpgxv5.New(n.pool), &river.Config{Schema: schema, Logger: quiet})
	must(t, err)
	_, err = kmsriver.Start(t.Context(), client, r)
	must(t, err)
}

var quiet = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))

// runInRiver is a worker process of the queue.
func runInRiver(ctx context.Context, o order) error {
	pool, err := connect(ctx, o.DSN)
	if err != nil {
		return err
	}
	defer pool.Close()
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	r, err := rotatorOf(ctx, db, o.Version, testkey.New(), o.options())
	if err != nil {
		return err
	}
	return workInRiver(ctx, pool, r, o.Workers)
}

// workInRiver does so many jobs at the same time until the run is over.
func workInRiver(ctx context.Context, pool *pgxpool.Pool, r *rotation.Rotator, jobs int) error {
	worker, err := kmsriver.NewWorker(r)
	if err != nil {
		return err
	}
	config := worker.Config(jobs)
	config.Schema, config.Logger = schema, quiet
	client, err := river.NewClient(riverpgxv5.New(pool), config)
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	run, _, err := r.Status(ctx)
	for err == nil && run.State.Unfinished() {
		time.Sleep(100 * time.Millisecond)
		run, _, err = r.Status(ctx)
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, client.Stop(stop))
}

// Three processes work on jobs of the queue; one of them is killed and another
// one started, 20 times.
func TestKillRiverPostgres(t *testing.T) {
	testKill(t, 3, order{
		Executor: "river", Version: 2, Kind: rotation.Rewrap,
		Workers: 2, Shards: 64, Batch: 500, Lease: time.Second,
	}, startInRiver)
}
