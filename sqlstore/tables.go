package sqlstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// tables are the definitions of the ledger, with {name} for a short text that
// may be a key, {text}, {number}, {fraction} and {serial} for types. An
// unfinished run has 1 in its column active and a finished one NULL, so that the
// unique index admits one unfinished run of a table.
var tables = []string{
	`CREATE TABLE IF NOT EXISTS kms_rotations (
	id {name} NOT NULL PRIMARY KEY,
	table_name {name} NOT NULL,
	kind {name} NOT NULL,
	target {number} NOT NULL,
	pass {number} NOT NULL,
	state {name} NOT NULL,
	planned {number} NOT NULL,
	active {number},
	started {number} NOT NULL,
	ended {number},
	verified {number},
	waiting {text},
	UNIQUE (table_name, active)
)`,
	`CREATE TABLE IF NOT EXISTS kms_rotation_shards (
	rotation_id {name} NOT NULL,
	shard {number} NOT NULL,
	from_key {text} NOT NULL,
	after_key {text} NOT NULL,
	to_key {text} NOT NULL,
	done {number} NOT NULL,
	owner {name} NOT NULL,
	lease_until {number} NOT NULL,
	beat {number} NOT NULL,
	written {number} NOT NULL,
	conflicts {number} NOT NULL,
	calls {number} NOT NULL,
	busy {number} NOT NULL,
	pass_changes {number} NOT NULL,
	pass_conflicts {number} NOT NULL,
	pass_failed {number} NOT NULL,
	PRIMARY KEY (rotation_id, shard)
)`,
	`CREATE TABLE IF NOT EXISTS kms_rotation_failures (
	id {serial},
	rotation_id {name} NOT NULL,
	shard {number} NOT NULL,
	record {text} NOT NULL,
	class {name} NOT NULL,
	reason {text} NOT NULL
)`,
	`CREATE TABLE IF NOT EXISTS kms_rotation_journal (
	id {serial},
	rotation_id {name} NOT NULL,
	table_name {name} NOT NULL,
	record {text} NOT NULL,
	key_column {name} NOT NULL,
	wrapped_key {text} NOT NULL
)`,
	// Times of limits are in microseconds.
	`CREATE TABLE IF NOT EXISTS kms_rate_limits (
	name {name} NOT NULL PRIMARY KEY,
	per_second {fraction} NOT NULL,
	rate {fraction} NOT NULL,
	changed {number} NOT NULL,
	tat {number} NOT NULL,
	slot {number} NOT NULL
)`,
}

// Tables returns the definitions of the tables that a Store needs beside the
// records, for a migration: kms_rotations, kms_rotation_shards,
// kms_rotation_failures, kms_rotation_journal and kms_rate_limits. They do nothing to tables that
// are there. The error is [kmsencrypted.ErrConfig] for an unknown dialect.
func Tables(d field.Dialect) ([]string, error) {
	known, err := dialectOf(d)
	if err != nil {
		return nil, err
	}
	return known.tables(), nil
}

func (d dialect) tables() []string {
	types := strings.NewReplacer("{name}", d.name, "{text}", d.text, "{number}", d.number, "{fraction}", "double precision", "{serial}", d.serial)
	definitions := make([]string, len(tables))
	for i, definition := range tables {
		definitions[i] = types.Replace(definition)
	}
	return definitions
}

// CreateTables makes the tables of [Tables] where they are missing.
func (s *Store[R]) CreateTables(ctx context.Context) error {
	for _, definition := range s.dialect.tables() {
		if _, err := s.db.ExecContext(ctx, definition); err != nil {
			return fmt.Errorf("sqlstore: create the tables of rotations: %w", err)
		}
	}
	return nil
}
