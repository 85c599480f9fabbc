package branch

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/tables"
)

// ownTables are the key store. Times are in milliseconds, those of rows since 1970.
// Branches at the top have a table of their own, so that it can be rotated like every
// table: the keys in the other one are not wrapped by a key service.
var ownTables = tables.Set{Name: "branches", Tables: []tables.Table{
	{Name: "kms_branch_store", Body: []string{
		"id {number} NOT NULL PRIMARY KEY", // always 1
		"store {name} NOT NULL",
		"max_age {number} NOT NULL",
		"stale_for {number} NOT NULL",
	}, Added: []tables.Column{{Since: 2, Name: "epoch", Type: "{number} DEFAULT 0 NOT NULL"}}},
	{Name: topTable, Body: []string{
		"branch {exact} NOT NULL",
		"version {number} NOT NULL",
		"encrypted_kms_key {text}",
		"created {number} NOT NULL",
		"closing {number}",
		"erased {number}",
		"PRIMARY KEY (branch, version)",
	}},
	{Name: subTable, Body: []string{
		"parent {exact} NOT NULL",
		"branch {exact} NOT NULL",
		"version {number} NOT NULL",
		"encrypted_kms_key {text}",
		"created {number} NOT NULL",
		"closing {number}",
		"erased {number}",
		"PRIMARY KEY (parent, branch, version)",
	}},
}}

// Tables returns the statements that create the tables of a key store, for a migration:
// kms_branch_store, kms_branch_keys and kms_branch_subkeys, and kms_tables, which records their version. Running the statements
// again changes nothing. [CreateTables] also gives the store its identity, which a store needs. The error is
// [kmsencrypted.ErrConfig] for an unknown dialect.
func Tables(d field.Dialect) ([]string, error) {
	statements, err := ownTables.DDL(d)
	if err != nil {
		return nil, fmt.Errorf("branch: %w", err)
	}
	return statements, nil
}

// CreateTables creates the tables of [Tables] if they are missing, and a store with these
// limits. It changes nothing in a store that exists. The error for negative limits is [kmsencrypted.ErrConfig].
func CreateTables(ctx context.Context, db *sql.DB, d field.Dialect, limits Limits) error {
	limits, err := limits.checked()
	if err != nil {
		return err
	}
	if err := tables.Create(ctx, db, d, ownTables); err != nil {
		return fmt.Errorf("branch: create the tables of branch keys: %w", err)
	}
	if _, err := readState(ctx, db); err == nil {
		return nil
	}
	var id ID
	rand.Read(id[:])
	_, err = db.ExecContext(ctx, d.SQL("INSERT INTO kms_branch_store (id, store, max_age, stale_for) VALUES (1, ?, ?, ?)"),
		id.String(), limits.MaxAge.Milliseconds(), limits.StaleFor.Milliseconds())
	if err != nil {
		if _, there := readState(ctx, db); there == nil { // another process was quicker
			return nil
		}
		return fmt.Errorf("branch: create the key store: %w", err)
	}
	return nil
}

func readState(ctx context.Context, db *sql.DB) (State, error) {
	var store stateRow
	err := db.QueryRowContext(ctx, "SELECT store, max_age, stale_for, epoch FROM kms_branch_store WHERE id = 1").Scan(&store.id, &store.maxAge, &store.staleFor, &store.epoch)
	if err != nil {
		return State{}, err
	}
	return store.state()
}

// stateRow is the row of kms_branch_store.
type stateRow struct {
	id                      string
	maxAge, staleFor, epoch int64
}

func (r stateRow) state() (s State, err error) {
	id, err := hex.DecodeString(r.id)
	if err != nil || len(id) != len(s.ID) {
		return s, fmt.Errorf("the identity of the key store is %q, want 32 hexadecimal digits", r.id)
	}
	if r.epoch < 0 {
		return s, fmt.Errorf("the epoch of the key store is %d", r.epoch)
	}
	return State{ID: ID(id), Limits: Limits{MaxAge: milliseconds(r.maxAge), StaleFor: milliseconds(r.staleFor)}, Epoch: uint64(r.epoch)}, nil
}
