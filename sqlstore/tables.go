package sqlstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/tables"
)

// ownTables hold the state of rotations. An unfinished run has 1 in its column
// active and a finished one NULL, so that the unique index admits one unfinished
// run of a table.
var ownTables = tables.Set{Name: "rotations", Tables: []tables.Table{
	{Name: "kms_rotations", Body: []string{
		"id {name} NOT NULL PRIMARY KEY",
		"table_name {name} NOT NULL",
		"kind {name} NOT NULL",
		"target {number} NOT NULL",
		"pass {number} NOT NULL",
		"state {name} NOT NULL",
		"planned {number} NOT NULL",
		"active {number}",
		"started {number} NOT NULL",
		"ended {number}",
		"verified {number}",
		"waiting {text}",
		"UNIQUE (table_name, active)",
	}, Added: []tables.Column{{Since: 2, Name: "part", Type: "{text}"}, {Since: 2, Name: "no_journal", Type: "{number}"}}},
	{Name: "kms_rotation_shards", Body: []string{
		"rotation_id {name} NOT NULL",
		"shard {number} NOT NULL",
		"from_key {text} NOT NULL",
		"after_key {text} NOT NULL",
		"to_key {text} NOT NULL",
		"done {number} NOT NULL",
		"owner {name} NOT NULL",
		"lease_until {number} NOT NULL",
		"beat {number} NOT NULL",
		"written {number} NOT NULL",
		"conflicts {number} NOT NULL",
		"calls {number} NOT NULL",
		"busy {number} NOT NULL",
		"pass_changes {number} NOT NULL",
		"pass_conflicts {number} NOT NULL",
		"pass_failed {number} NOT NULL",
		"PRIMARY KEY (rotation_id, shard)",
	}, Added: []tables.Column{ // microseconds
		{Since: 4, Name: "reading", Type: "{number}"}, {Since: 4, Name: "rotating", Type: "{number}"},
		{Since: 4, Name: "waited", Type: "{number}"}, {Since: 4, Name: "writing", Type: "{number}"},
	}},
	{Name: "kms_rotation_failures", Body: []string{
		"id {serial}",
		"rotation_id {name} NOT NULL",
		"shard {number} NOT NULL",
		"record {text} NOT NULL",
		"class {name} NOT NULL",
		"reason {text} NOT NULL",
	}},
	{Name: "kms_rotation_journal", Body: []string{
		"id {serial}",
		"rotation_id {name} NOT NULL",
		"table_name {name} NOT NULL",
		"record {text} NOT NULL",
		"key_column {name} NOT NULL",
		"wrapped_key {text} NOT NULL",
	}, Added: []tables.Column{{Since: 2, Name: "store", Type: "{text}"}, {Since: 3, Name: "branch", Type: "{text}"}}},
	// Times of limits are in microseconds.
	{Name: "kms_rate_limits", Body: []string{
		"name {name} NOT NULL PRIMARY KEY",
		"per_second {fraction} NOT NULL",
		"rate {fraction} NOT NULL",
		"changed {number} NOT NULL",
		"tat {number} NOT NULL",
		"slot {number} NOT NULL",
	}},
}}

// Tables returns the statements that create the tables of a Store, for a migration:
// kms_rotations, kms_rotation_shards, kms_rotation_failures, kms_rotation_journal
// and kms_rate_limits, and kms_tables, which records their version. Running the
// statements again changes nothing. Tables returns [kmsencrypted.ErrConfig] for an
// unknown dialect.
func Tables(d field.Dialect) ([]string, error) {
	statements, err := ownTables.DDL(d)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	return statements, nil
}

// CreateTables creates the tables of [Tables] if they are missing, and adds what
// the tables of an older release lack. The older release can still use them.
func CreateTables(ctx context.Context, db *sql.DB, d field.Dialect) error {
	if err := tables.Create(ctx, db, d, ownTables); err != nil {
		return fmt.Errorf("sqlstore: create the tables of rotations: %w", markAway(err))
	}
	return nil
}

// CreateTables calls the function [CreateTables] for the database of the store.
func (s *Store[R]) CreateTables(ctx context.Context) error {
	if err := s.usable(); err != nil {
		return err
	}
	return CreateTables(ctx, s.db.DB, s.dialect)
}
