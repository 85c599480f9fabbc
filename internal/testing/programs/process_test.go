package programs

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// process is a program that works on the table: a release under a Box of its own,
// through one adapter. One transaction at a time may be open.
type process interface {
	blank() record
	insert(context.Context, record) error
	// read reads into a new record; a closed one as a server does that may not decrypt.
	read(ctx context.Context, id []any, closed bool) (record, error)
	// update writes what changed, and the plain columns if all is true.
	update(ctx context.Context, r record, all bool) error
	rewrap(context.Context, record) error
	rekey(context.Context, record) error
	remove(context.Context, record) error
	rotate(context.Context, rotation.Kind) error
	// verify compares what an opened record holds besides its values.
	verify(context.Context, record) error

	begin() error
	commit() error
	rollback() error
	savepoint(name string) error
	rollbackTo(name string) error
}

// pointer is a pointer to the struct of a release.
type pointer[R any] interface {
	*R
	record
}

// common is what processes of all adapters are made of.
type common[R any, P pointer[R]] struct {
	model   *field.Model[R]
	db      *sql.DB
	admin   *sql.DB // for rotations, which may wait for locks
	dialect field.Dialect
}

func (c *common[R, P]) blank() record { return P(new(R)) }

func (c *common[R, P]) row(r record) *R { return (*R)(r.(P)) }

func (c *common[R, P]) verify(ctx context.Context, r record) error {
	return c.model.Adapter().CheckDerived(ctx, c.row(r))
}

// rotate moves the whole table with package rotation.
func (c *common[R, P]) rotate(ctx context.Context, kind rotation.Kind) error {
	store, err := sqlstore.New(ctx, c.admin, c.dialect, c.model, sqlstore.Options{})
	if err != nil {
		return err
	}
	if err := store.CreateTables(ctx); err != nil {
		return err
	}
	rotator, err := rotation.New(c.model.Adapter().Box(), store, rotation.Options{Kind: kind, WritersAreOurs: true, Workers: 1, Shards: 1})
	if err != nil {
		return err
	}
	_, err = rotator.Run(ctx)
	return err
}

// query selects a row by its primary key.
func (c *common[R, P]) query() string {
	m := c.model.Adapter()
	ids := m.IDColumns()
	all := strings.Join(append(append(append([]string{}, ids...), "tenant", "title"), m.Columns()...), ", ")
	return "SELECT " + all + " FROM " + tableName + " WHERE " + strings.Join(ids, " = ? AND ") + " = ?"
}

// viaSqlx goes through kmssqlx.
type viaSqlx[R any, P pointer[R]] struct {
	common[R, P]
	handle *sqlx.DB
	tx     *sqlx.Tx
}

func (p *viaSqlx[R, P]) ext() kmssqlx.Ext {
	if p.tx != nil {
		return p.tx
	}
	return p.handle
}

func (p *viaSqlx[R, P]) insert(ctx context.Context, r record) error {
	return kmssqlx.Insert(ctx, p.ext(), p.model, p.row(r))
}

func (p *viaSqlx[R, P]) read(ctx context.Context, id []any, closed bool) (record, error) {
	r := new(R)
	if closed {
		return P(r), sqlx.GetContext(ctx, p.ext(), r, p.ext().Rebind(p.query()), id...)
	}
	return P(r), kmssqlx.Get(ctx, p.ext(), p.model, r, p.query(), id...)
}

func (p *viaSqlx[R, P]) update(ctx context.Context, r record, all bool) error {
	if all {
		return kmssqlx.Update(ctx, p.ext(), p.model, p.row(r), "*")
	}
	return kmssqlx.Update(ctx, p.ext(), p.model, p.row(r))
}

func (p *viaSqlx[R, P]) rewrap(ctx context.Context, r record) error {
	return kmssqlx.Rewrap(ctx, p.ext(), p.model, p.row(r))
}

func (p *viaSqlx[R, P]) rekey(ctx context.Context, r record) error {
	return kmssqlx.Rekey(ctx, p.ext(), p.model, p.row(r))
}

func (p *viaSqlx[R, P]) remove(ctx context.Context, r record) error {
	return kmssqlx.Delete(ctx, p.ext(), p.model, p.row(r))
}

func (p *viaSqlx[R, P]) begin() (err error) {
	p.tx, err = p.handle.Beginx()
	return err
}

func (p *viaSqlx[R, P]) commit() error {
	err := p.tx.Commit()
	if err != nil {
		err = fmt.Errorf("%w (rollback: %v)", err, p.tx.Rollback())
	}
	p.tx = nil
	return err
}

func (p *viaSqlx[R, P]) rollback() error {
	err := p.tx.Rollback()
	p.tx = nil
	return err
}

func (p *viaSqlx[R, P]) savepoint(name string) error {
	_, err := p.tx.Exec("SAVEPOINT " + name)
	return err
}

func (p *viaSqlx[R, P]) rollbackTo(name string) error {
	_, err := p.tx.Exec("ROLLBACK TO SAVEPOINT " + name)
	return err
}
