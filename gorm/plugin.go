package kmsgorm

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// Plugin is for [gorm.DB.Use], once for each database. It is safe for concurrent
// use.
type Plugin struct {
	models []field.AnyModel
	tables []*table
	seen   seen
}

// New returns a plugin for the tables of models, each a [*field.Model]. It leaves
// tables without a model to GORM. [gorm.DB.Use] reports nil and zero models, and
// none at all, as [kmsencrypted.ErrConfig].
func New(models ...field.AnyModel) *Plugin { return &Plugin{models: models} }

// Name implements [gorm.Plugin].
func (p *Plugin) Name() string { return "kmsencrypted" }

// settings of a statement.
const (
	settingOwn    = "kmsencrypted:own" // on statements of this package
	settingLazily = "kmsencrypted:lazily"
)

// Lazily makes a query leave its records closed until [field.Of.Plain] asks for
// a value. Use it as a scope, db.Scopes(kmsgorm.Lazily).Find(&list), or for all
// queries of the session that it returns.
func Lazily(db *gorm.DB) *gorm.DB { return db.Set(settingLazily, true) }

// Initialize implements [gorm.Plugin]: it compares the models with what GORM
// knows about their structs and reports all differences.
func (p *Plugin) Initialize(db *gorm.DB) error {
	if p == nil || len(p.models) == 0 {
		return configError("the plugin has no models: make it by kmsgorm.New(customers, …)")
	}
	if db == nil || db.Config == nil {
		return configError("the *gorm.DB is nil or was not made by gorm.Open")
	}
	var mistakes []error
	tables := make([]*table, 0, len(p.models))
	for _, m := range p.models {
		t, err := newTable(db, m)
		mistakes = append(mistakes, err)
		tables = append(tables, t)
	}
	if err := errors.Join(mistakes...); err != nil {
		return err
	}
	p.tables, p.seen.byText = tables, nil
	return p.register(db)
}

// register registers the callbacks. Work that needs the key service is done before
// GORM begins its transaction, as far as the values are known then. Values that the
// program's hooks and other plugins may still change are handled right before the
// statement. The callbacks run with SkipHooks too.
func (p *Plugin) register(db *gorm.DB) error {
	const name = "kmsencrypted:"
	c := db.Callback()
	insert := c.Create().Get("gorm:create")
	if insert == nil {
		return configError("GORM has no callback gorm:create")
	}
	// A soft delete is built like an UPDATE.
	c.Update().Clauses = append(slices.Clip(c.Update().Clauses), guardName)
	return errors.Join(
		c.Create().Replace("gorm:create", oneByOne(insert)),
		c.Create().Before("*").Register(name+"prepare", p.checked((*table).prepareCreate)),
		c.Create().Before("gorm:create").Register(name+"seal", p.checked((*table).beforeCreate)),
		c.Create().Before("gorm:save_after_associations").Register(name+"created", p.afterCreate),
		c.Create().After("gorm:commit_or_rollback_transaction").Register(name+"confirmed", p.confirm),
		c.Update().After("gorm:commit_or_rollback_transaction").Register(name+"confirmed", p.confirm),
		c.Update().Before("*").Register(name+"prepare", p.checked((*table).prepareUpdate)),
		c.Update().Before("gorm:save_after_associations").Register(name+"updated", p.afterUpdate),
		c.Query().Before("gorm:query").Register(name+"check", p.checked((*table).beforeQuery)),
		c.Query().Before("gorm:after_query").Register(name+"open", p.afterQuery),
		c.Create().Before("gorm:create").Register(name+"strict", p.strict("INSERT")),
		c.Update().Before("gorm:update").Register(name+"strict", p.strict("UPDATE")),
		c.Create().Before("gorm:create").Register(name+"guard", p.guard),
		c.Update().Before("gorm:update").Register(name+"guard", p.guard),
		c.Query().Before("gorm:query").Register(name+"guard", p.guard),
		c.Row().Before("gorm:row").Register(name+"guard", p.guard),
		c.Delete().Before("gorm:delete").Register(name+"guard", p.guard),
		c.Raw().Before("gorm:raw").Register(name+"guard", p.guard),
	)
}

// checked runs f for statements about a table of the plugin, if nothing failed yet.
func (p *Plugin) checked(f func(*table, *gorm.DB) error) func(*gorm.DB) {
	return func(db *gorm.DB) {
		if _, own := db.Get(settingOwn); own || db.Error != nil {
			return
		}
		if t := p.tableOf(db.Statement); t != nil {
			if err := f(t, db); err != nil {
				_ = db.AddError(err)
			}
		}
	}
}

// tableOf finds the table by the struct of a statement or, where another struct
// or none is used, by its name.
func (p *Plugin) tableOf(stmt *gorm.Statement) *table {
	for _, t := range p.tables {
		if stmt.Schema != nil && stmt.Schema.ModelType == t.rowType {
			return t
		}
	}
	names := []string{plainName(stmt.Table)}
	if stmt.TableExpr != nil { // perhaps under an alias
		if first, _, ok := strings.Cut(strings.TrimSpace(stmt.TableExpr.SQL), " "); ok {
			names = append(names, plainName(first))
		}
	}
	for _, t := range p.tables {
		if slices.Contains(names, plainName(t.name)) {
			return t
		}
	}
	return nil
}

// tableFor finds the table of a struct.
func (p *Plugin) tableFor(row reflect.Type) *table {
	for _, t := range p.tables {
		if t.rowType == row {
			return t
		}
	}
	return nil
}

// refused returns the error of a statement that bypasses the record.
func (t *table) refused(op, column string, err error, why string) error {
	return &kmsencrypted.Error{Op: op, Record: t.name, Column: column, Err: err, Cause: errors.New(why)}
}

func configError(format string, args ...any) error {
	return fmt.Errorf("kmsgorm: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}
