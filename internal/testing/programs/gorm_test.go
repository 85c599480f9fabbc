package programs

import (
	"context"
	"database/sql"
	"strconv"
	"strings"

	"gorm.io/driver/mysql"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
)

// viaGORM goes through kmsgorm.
type viaGORM[R any, P pointer[R]] struct {
	common[R, P]
	handle *gorm.DB
	tx     *gorm.DB
}

func newViaGORM[R any, P pointer[R]](c common[R, P]) (process, error) {
	db, err := gorm.Open(dialectorOf(c.dialect, c.db), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	return &viaGORM[R, P]{common: c, handle: db}, db.Use(kmsgorm.New(c.model))
}

func (p *viaGORM[R, P]) session(ctx context.Context) *gorm.DB {
	if p.tx != nil {
		return p.tx.WithContext(ctx)
	}
	return p.handle.WithContext(ctx)
}

func (p *viaGORM[R, P]) insert(ctx context.Context, r record) error {
	return p.session(ctx).Create(p.row(r)).Error
}

func (p *viaGORM[R, P]) read(ctx context.Context, id []any, closed bool) (record, error) {
	r, db := new(R), p.session(ctx)
	if closed {
		db = db.Scopes(kmsgorm.Lazily)
	}
	condition := strings.Join(p.model.Adapter().IDColumns(), " = ? AND ") + " = ?"
	err := db.Where(condition, id...).Take(r).Error
	if err == gorm.ErrRecordNotFound {
		err = sql.ErrNoRows
	}
	return P(r), err
}

// update saves the record, or only what is not empty.
func (p *viaGORM[R, P]) update(ctx context.Context, r record, all bool) error {
	if all && !strings.Contains("/"+r.id()+"/", "/0/") {
		return p.session(ctx).Save(p.row(r)).Error
	}
	db := p.session(ctx).Model(p.row(r))
	if all { // GORM's Save takes it for a new record
		db = db.Select("*")
	}
	result := db.Updates(p.row(r))
	if result.Error == nil && result.RowsAffected == 0 {
		return sql.ErrNoRows
	}
	return result.Error
}

func (p *viaGORM[R, P]) rewrap(ctx context.Context, r record) error {
	if err := p.model.Rewrap(ctx, p.row(r)); err != nil {
		return err
	}
	return p.update(ctx, r, true)
}

func (p *viaGORM[R, P]) rekey(ctx context.Context, r record) error {
	if err := p.model.Rekey(ctx, p.row(r)); err != nil {
		return err
	}
	return p.update(ctx, r, true)
}

func (p *viaGORM[R, P]) remove(ctx context.Context, r record) error {
	result := p.session(ctx).Delete(p.row(r))
	if result.Error == nil && result.RowsAffected == 0 {
		return sql.ErrNoRows
	}
	return result.Error
}

func (p *viaGORM[R, P]) begin() error {
	tx := p.handle.Begin()
	if tx.Error == nil {
		p.tx = tx
	}
	return tx.Error
}

func (p *viaGORM[R, P]) commit() error {
	err := p.tx.Commit().Error
	if err != nil {
		p.tx.Statement.ConnPool.(gorm.TxCommitter).Rollback()
	}
	p.tx = nil
	return err
}

func (p *viaGORM[R, P]) rollback() error {
	err := p.tx.Rollback().Error
	p.tx = nil
	return err
}

// A session of its own, because gorm.DB keeps the error of a savepoint.
func (p *viaGORM[R, P]) savepoint(name string) error {
	return p.tx.Session(&gorm.Session{}).SavePoint(name).Error
}

func (p *viaGORM[R, P]) rollbackTo(name string) error {
	return p.tx.Session(&gorm.Session{}).RollbackTo(name).Error
}

// dialectorOf returns GORM's driver for an existing connection.
func dialectorOf(dialect field.Dialect, db *sql.DB) gorm.Dialector {
	switch dialect {
	case field.Postgres:
		return postgresDialector{sqlite.Dialector{Conn: db}}
	case field.MySQL:
		return mysql.New(mysql.Config{Conn: db})
	}
	return sqlite.New(sqlite.Config{Conn: db})
}

// postgresDialector is as much of PostgreSQL's as these programs need.
type postgresDialector struct{ sqlite.Dialector }

func (postgresDialector) Name() string { return "postgres" }

func (d postgresDialector) Initialize(db *gorm.DB) error {
	db.ConnPool = d.Conn
	callbacks.RegisterDefaultCallbacks(db, &callbacks.Config{
		CreateClauses: []string{"INSERT", "VALUES", "ON CONFLICT", "RETURNING"},
		UpdateClauses: []string{"UPDATE", "SET", "FROM", "WHERE", "RETURNING"},
	})
	return nil
}

func (postgresDialector) BindVarTo(w clause.Writer, stmt *gorm.Statement, _ any) {
	_, _ = w.WriteString("$" + strconv.Itoa(len(stmt.Vars)))
}

func (postgresDialector) QuoteTo(w clause.Writer, name string) {
	_, _ = w.WriteString(`"` + strings.ReplaceAll(name, ".", `"."`) + `"`)
}
