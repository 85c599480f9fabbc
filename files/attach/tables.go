package attach

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/tables"
)

// attachmentTables hold the attachments. Each object belongs to one attachment.
var attachmentTables = tables.Set{Name: "attachments", Tables: []tables.Table{
	{Name: "kms_attachments", Body: []string{
		"id {name} NOT NULL PRIMARY KEY",
		"record_table {name} NOT NULL",
		"record_id {name} NOT NULL",
		"name {name} NOT NULL",
		"variant {name} NOT NULL",
		"parent_id {name} NOT NULL",
		"bucket {name} NOT NULL",
		"object {name} NOT NULL",
		"format {name} NOT NULL",
		"file_id {name} NOT NULL",
		"wrapped_key {text} NOT NULL",
		"size {number} NOT NULL",
		"object_size {number} NOT NULL",
		"file_name {text} NOT NULL",
		"content_type {text} NOT NULL",
		"created {number} NOT NULL",
		"UNIQUE (bucket, object)",
		"UNIQUE (record_table, record_id, id)",
	}, Added: []tables.Column{{Since: 3, Name: "recovery", Type: "{text}"}},
		Indexes: []tables.Index{{Since: 2, Name: "kms_attachments_parent", Columns: "parent_id"}}},
}}

// objectTables list the objects that may have to be deleted. Attachments of
// Active Storage need them too.
var objectTables = tables.Set{Name: "attachment_objects", Tables: []tables.Table{
	{Name: "kms_attachment_objects", Body: []string{
		"bucket {name} NOT NULL",
		"object {name} NOT NULL",
		"state {name} NOT NULL",
		"until {number} NOT NULL",
		"PRIMARY KEY (bucket, object)",
	}, Added: []tables.Column{{Since: 3, Name: "upload_id", Type: "{text}"}, {Since: 3, Name: "sealed_key", Type: "{text}"}}},
	{Since: 2, Name: "kms_attachment_stores", Body: []string{
		"bucket {name} NOT NULL PRIMARY KEY",
		"identity {name} NOT NULL",
	}},
	{Since: 3, Name: "kms_attachment_parts", Body: []string{
		"bucket {name} NOT NULL",
		"object {name} NOT NULL",
		"part {number} NOT NULL",
		"sha256 {name} NOT NULL",
		"PRIMARY KEY (bucket, object, part)",
	}},
}}

// Tables returns the statements that create the tables of attachments, for a
// migration: kms_attachments, kms_attachment_objects, kms_attachment_stores,
// kms_attachment_parts, and kms_tables, which records their version. Running the statements again changes nothing. Tables
// returns [kmsencrypted.ErrConfig] for an unknown dialect.
func Tables(d field.Dialect) ([]string, error) {
	statements, err := tables.DDL(d, attachmentTables, objectTables)
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	return statements, nil
}

// CreateTables creates the tables of [Tables] if they are missing, and adds what
// the tables of an older release lack. The older release can still use them.
func CreateTables(ctx context.Context, db *sql.DB, d field.Dialect) error {
	return createTables(ctx, db, d, attachmentTables, objectTables)
}

func createTables(ctx context.Context, db *sql.DB, d field.Dialect, sets ...tables.Set) error {
	if err := tables.Create(ctx, db, d, sets...); err != nil {
		return fmt.Errorf("attach: create the tables of attachments: %w", err)
	}
	return nil
}

// CreateTables calls the function [CreateTables] for the database of the manager.
func (m *Manager[R]) CreateTables(ctx context.Context) error {
	if err := m.usable(); err != nil {
		return err
	}
	return CreateTables(ctx, m.db, m.dialect)
}

// CreateTables creates the tables kms_attachment_objects, kms_attachment_stores and
// kms_attachment_parts if they are missing. The other tables belong to Active Storage.
func (r *Rails[R]) CreateTables(ctx context.Context) error {
	if err := r.usable(); err != nil {
		return err
	}
	return createTables(ctx, r.db, r.dialect, objectTables)
}
