package kment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Driver is a [dialect.Driver] that seals entities when their statement is sent, and
// that refuses statements which would write or search a plaintext. It is safe for
// concurrent use. Make it by [Wrap].
type Driver struct {
	dialect.Driver
	kind   sqldialect.Dialect
	tables []*table
}

// Wrap returns a driver for a client whose entities have models, each a [*field.Model]
// of a generated type. Close of the driver closes drv. A mistake is
// [kmsencrypted.ErrConfig].
//
//	drv, err := sql.Open(dialect.Postgres, dsn) // of entgo.io/ent/dialect/sql
//	kms, err := kment.Wrap(drv, customers, notes)
//	client := ent.NewClient(ent.Driver(kms))
//
// Drivers that others wrap around this one must be a [dialect.DebugDriver] or have a
// method Unwrap() dialect.Driver; otherwise wrap theirs.
func Wrap(drv dialect.Driver, models ...field.AnyModel) (*Driver, error) {
	if missing.Is(drv) {
		return nil, configError("the driver is nil")
	}
	if len(models) == 0 {
		return nil, configError("the driver has no models")
	}
	d := &Driver{Driver: drv}
	switch drv.Dialect() {
	case dialect.Postgres:
		d.kind = sqldialect.Postgres
	case dialect.MySQL:
		d.kind = sqldialect.MySQL
	case dialect.SQLite:
		d.kind = sqldialect.SQLite
	default:
		return nil, configError("no database that is known has the dialect %q", drv.Dialect())
	}
	var mistakes []error
	for _, m := range models {
		t, err := newTable(m)
		mistakes = append(mistakes, err)
		d.tables = append(d.tables, t)
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Driver) usable() error {
	if d == nil || d.Driver == nil {
		return configError("the driver was not made by kment.Wrap")
	}
	return nil
}

// Dialect implements [dialect.Driver].
func (d *Driver) Dialect() string {
	if d.usable() != nil {
		return ""
	}
	return d.Driver.Dialect()
}

// Close closes the wrapped driver.
func (d *Driver) Close() error {
	if err := d.usable(); err != nil {
		return err
	}
	return d.Driver.Close()
}

// Exec implements [dialect.Driver].
func (d *Driver) Exec(ctx context.Context, query string, args, v any) error {
	if err := d.usable(); err != nil {
		return err
	}
	return d.conn().run(ctx, query, args, v, dialect.ExecQuerier.Exec)
}

// Query implements [dialect.Driver].
func (d *Driver) Query(ctx context.Context, query string, args, v any) error {
	if err := d.usable(); err != nil {
		return err
	}
	return d.conn().run(ctx, query, args, v, dialect.ExecQuerier.Query)
}

// Tx begins a transaction.
func (d *Driver) Tx(ctx context.Context) (dialect.Tx, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	inner, err := d.Driver.Tx(ctx)
	if err != nil {
		return nil, err
	}
	return &tx{inner, conn{ex: inner, driver: d}}, nil
}

// BeginTx begins a transaction with options, if the wrapped driver can.
func (d *Driver) BeginTx(ctx context.Context, options *entsql.TxOptions) (dialect.Tx, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	drv, ok := d.Driver.(interface {
		BeginTx(context.Context, *entsql.TxOptions) (dialect.Tx, error)
	})
	if !ok {
		return nil, fmt.Errorf("kment: %w: %T has no BeginTx", errors.ErrUnsupported, d.Driver)
	}
	inner, err := drv.BeginTx(ctx, options)
	if err != nil {
		return nil, err
	}
	return &tx{inner, conn{ex: inner, driver: d}}, nil
}

// ExecContext is for clients that are generated with the feature sql/execquery.
func (d *Driver) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	return d.conn().execContext(ctx, query, args)
}

// QueryContext is for clients that are generated with the feature sql/execquery.
func (d *Driver) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	return d.conn().queryContext(ctx, query, args)
}

func (d *Driver) conn() conn { return conn{ex: d.Driver, driver: d, begin: d.Driver.Tx} }

// tx is a transaction of a Driver.
type tx struct {
	dialect.Tx
	conn conn
}

func (t *tx) Exec(ctx context.Context, query string, args, v any) error {
	return t.conn.run(ctx, query, args, v, dialect.ExecQuerier.Exec)
}

func (t *tx) Query(ctx context.Context, query string, args, v any) error {
	return t.conn.run(ctx, query, args, v, dialect.ExecQuerier.Query)
}

func (t *tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return t.conn.execContext(ctx, query, args)
}

func (t *tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.conn.queryContext(ctx, query, args)
}

// unwrap finds the Driver in the driver of a client.
func unwrap(drv dialect.Driver) (*Driver, error) {
	for drv != nil {
		switch d := drv.(type) {
		case *Driver:
			return d, d.usable()
		case *dialect.DebugDriver:
			drv = d.Driver
		case interface{ Unwrap() dialect.Driver }:
			drv = d.Unwrap()
		default:
			return nil, configError("the client's driver is a %T: make it by kment.Wrap", drv)
		}
	}
	return nil, configError("the client has no driver")
}

// tableOf finds the table of an entity.
func (d *Driver) tableOf(entity reflect.Type) (*table, error) {
	for _, t := range d.tables {
		if t.row == entity {
			return t, nil
		}
	}
	return nil, configError("%v has encrypted columns and no model: pass it to kment.Wrap", entity)
}

func configError(format string, args ...any) error {
	return fmt.Errorf("kment: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}
