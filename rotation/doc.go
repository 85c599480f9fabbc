// Package rotation moves all records of a table to the current version of a
// [kmsencrypted.Box]: to another key, key service, context or format. A run may be
// interrupted, killed, and shared by several processes.
//
// # Before a run
//
// Deploy the new version twice: first listed in [kmsencrypted.Config], so that
// every process can read it, then as Current, so that every process writes it.
// Then rotate. A run started earlier would write records that some process cannot
// read.
//
// # A run
//
// Package sqlstore provides the [Store] of a SQL table:
//
//	store, err := sqlstore.New(ctx, db, field.Postgres, customers, sqlstore.Options{})
//	rotator, err := rotation.New(box, store, rotation.Options{})
//	plan, err := rotator.Plan(ctx)     // counts, reads nothing else
//	result, err := rotator.Run(ctx)    // call it again after an interruption
//	found, err := rotator.Verify(ctx, rotation.VerifyOptions{})
//	is, err := rotator.Retirable(ctx, 1) // whether version 1 is still needed
//
// [Options.Kind] chooses what happens to a record: [Rewrap] wraps its data key
// again and does not change columns and files; [Rekey] seals everything under a new
// data key; the other kinds are [Migrate], [Reindex], [Complete] and [FirstKey].
//
// # How it works
//
// A run divides the primary key into shards. A worker takes a shard under a lease,
// reads a batch, calls the key service, and writes the batch together with its
// position in one transaction. A row is written only if the columns that the
// change depends on have not changed since they were read; otherwise the next pass
// reads it again. The run ends with a pass that finds nothing left to move.
//
// The state of a run is kept in the [Ledger], in the same database. So another
// process can continue after a crash, and [Rotator.Pause] works in all of them.
//
// Package rotatecli is a command line for rotations, and package kmsriver runs them in
// the workers of a job queue. docs/rotation-runbook.md describes what to do when a run
// does not proceed.
package rotation
