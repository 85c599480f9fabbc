// A program whose table is moved to another key by jobs of River, the queue on
// PostgreSQL. Two clients work on it, as two processes would; a third asks for
// the rotation and waits for it.
//
//	DATABASE_URL=postgres://… go run ./examples/river
//
// It works in a schema of its own and drops it at the end.
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	kmsriver "github.com/kmsencrypted/kmsencrypted/river"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// Customer is a row of the table customers.
type Customer struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

const rows = 2000

func main() {
	if err := run(context.Background(), os.Getenv("DATABASE_URL"), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, url string, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "river")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	schema := "kms_example_" + strings.ToLower(rand.Text()[:8])
	pool, err := connect(ctx, url, schema)
	if err != nil {
		return err
	}
	defer pool.Close()
	defer func() {
		_, dropped := pool.Exec(context.WithoutCancel(ctx), "DROP SCHEMA "+schema+" CASCADE")
		err = errors.Join(err, dropped)
	}()
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()

	old, err := boxOf(dir, 1)
	if err != nil {
		return err
	}
	if err := fill(ctx, pool, old); err != nil {
		return err
	}

	// From here on it is what a process of a worker does.
	box, err := boxOf(dir, 2)
	if err != nil {
		return err
	}
	rotator, err := rotatorOf(ctx, db, box)
	if err != nil {
		return err
	}
	for range 2 {
		client, err := workers(ctx, pool, schema, rotator)
		if err != nil {
			return err
		}
		defer client.Stop(context.WithoutCancel(ctx))
	}

	// And this what the process does that wants the rotation.
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Schema: schema})
	if err != nil {
		return err
	}
	status, err := kmsriver.Start(ctx, client, rotator)
	for err == nil && status.State.Unfinished() {
		time.Sleep(100 * time.Millisecond)
		status, _, err = rotator.Status(ctx)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d rewrapped, %d conflicts, %d failed\n", status.State, status.Written, status.Conflicts, status.Failed)
	verified, err := rotator.Verify(ctx, rotation.VerifyOptions{})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "verified: %d opened, clean: %v\n", verified.Opened, verified.Clean(box.Current()))
	return nil
}

// connect makes the schema and lets every connection begin in it.
func connect(ctx context.Context, url, schema string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["search_path"] = schema
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, "CREATE SCHEMA "+schema); err != nil {
		pool.Close()
		return nil, err
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: schema})
	if err == nil {
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		pool.Close()
	}
	return pool, err
}

// workers starts a client that does two jobs at the same time.
func workers(ctx context.Context, pool *pgxpool.Pool, schema string, rotator *rotation.Rotator) (*river.Client[pgx.Tx], error) {
	worker, err := kmsriver.NewWorker(rotator)
	if err != nil {
		return nil, err
	}
	config := worker.Config(2)
	config.Schema = schema
	client, err := river.NewClient(riverpgxv5.New(pool), config)
	if err != nil {
		return nil, err
	}
	return client, client.Start(ctx)
}

// boxOf has version 1 under one key and version 2 under another.
func boxOf(dir string, current int) (*kmsencrypted.Box, error) {
	versions := make(map[int]kmsencrypted.Version)
	for n := range 2 {
		path := filepath.Join(dir, fmt.Sprintf("key%d.txt", n+1))
		key, err := local.OpenOrCreate(path, func() (inUse bool, err error) {
			return false, nil // folder and schema are new; a program asks its table
		})
		if err != nil {
			return nil, err
		}
		versions[n+1] = kmsencrypted.Version{Provider: key}
	}
	return kmsencrypted.Config{Current: current, Versions: versions}.Box()
}

func rotatorOf(ctx context.Context, db *sql.DB, box *kmsencrypted.Box) (*rotation.Rotator, error) {
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
	if err != nil {
		return nil, err
	}
	store, err := sqlstore.New(ctx, db, field.Postgres, customers, sqlstore.Options{})
	if err != nil {
		return nil, err
	}
	if err := store.CreateTables(ctx); err != nil {
		return nil, err
	}
	return rotation.New(box, store, rotation.Options{Shards: 16})
}

// fill makes the table and its rows.
func fill(ctx context.Context, pool *pgxpool.Pool, box *kmsencrypted.Box) error {
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
	if err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, "CREATE TABLE customers (id bigint PRIMARY KEY, encrypted_kms_key text, email_ciphertext text)"); err != nil {
		return err
	}
	list := make([]Customer, rows)
	for i := range list {
		list[i] = Customer{ID: int64(i + 1), Email: field.New(fmt.Sprintf("customer%d@example.org", i+1))}
	}
	if err := customers.SealNew(ctx, field.Pointers(list)...); err != nil {
		return err
	}
	_, err = pool.CopyFrom(ctx, pgx.Identifier{"customers"}, []string{"id", "encrypted_kms_key", "email_ciphertext"},
		pgx.CopyFromSlice(len(list), func(i int) ([]any, error) { return []any{list[i].ID, list[i].Key, list[i].Email}, nil }))
	return err
}
