package kmsbun

import (
	"context"

	"github.com/uptrace/bun"
)

// hooks are those of a table: bun asks its zero value for them. The hooks of the struct
// itself run too, with opened records.
type hooks struct {
	*plugin
	table *table // nil for a parent without encrypted columns
	zero  any    // of the struct
}

func (h *hooks) BeforeSelect(ctx context.Context, q *bun.SelectQuery) error {
	if own, ok := h.zero.(bun.BeforeSelectHook); ok {
		if err := own.BeforeSelect(ctx, q); err != nil {
			return err
		}
	}
	if h.table == nil {
		return nil
	}
	return h.table.beforeSelect(q)
}

func (h *hooks) AfterSelect(ctx context.Context, q *bun.SelectQuery) error {
	if err := h.open(ctx, q); err != nil {
		return err
	}
	if own, ok := h.zero.(bun.AfterSelectHook); ok {
		return own.AfterSelect(ctx, q)
	}
	return nil
}

func (h *hooks) BeforeInsert(ctx context.Context, q *bun.InsertQuery) error {
	if own, ok := h.zero.(bun.BeforeInsertHook); ok {
		if err := own.BeforeInsert(ctx, q); err != nil {
			return err
		}
	}
	if h.table == nil {
		return nil
	}
	return h.table.beforeInsert(ctx, q)
}

func (h *hooks) AfterInsert(ctx context.Context, q *bun.InsertQuery) error {
	if own, ok := h.zero.(bun.AfterInsertHook); ok {
		return own.AfterInsert(ctx, q)
	}
	return nil
}

func (h *hooks) BeforeUpdate(ctx context.Context, q *bun.UpdateQuery) error {
	if own, ok := h.zero.(bun.BeforeUpdateHook); ok {
		if err := own.BeforeUpdate(ctx, q); err != nil {
			return err
		}
	}
	if h.table == nil {
		return nil
	}
	return h.table.beforeUpdate(ctx, q)
}

func (h *hooks) AfterUpdate(ctx context.Context, q *bun.UpdateQuery) error {
	if own, ok := h.zero.(bun.AfterUpdateHook); ok {
		return own.AfterUpdate(ctx, q)
	}
	return nil
}

func (h *hooks) BeforeDelete(ctx context.Context, q *bun.DeleteQuery) error {
	if own, ok := h.zero.(bun.BeforeDeleteHook); ok {
		return own.BeforeDelete(ctx, q)
	}
	return nil
}

func (h *hooks) AfterDelete(ctx context.Context, q *bun.DeleteQuery) error {
	if own, ok := h.zero.(bun.AfterDeleteHook); ok {
		return own.AfterDelete(ctx, q)
	}
	return nil
}

func (h *hooks) BeforeCreateTable(ctx context.Context, q *bun.CreateTableQuery) error {
	if own, ok := h.zero.(bun.BeforeCreateTableHook); ok {
		return own.BeforeCreateTable(ctx, q)
	}
	return nil
}

func (h *hooks) AfterCreateTable(ctx context.Context, q *bun.CreateTableQuery) error {
	if own, ok := h.zero.(bun.AfterCreateTableHook); ok {
		return own.AfterCreateTable(ctx, q)
	}
	return nil
}

func (h *hooks) BeforeDropTable(ctx context.Context, q *bun.DropTableQuery) error {
	if own, ok := h.zero.(bun.BeforeDropTableHook); ok {
		return own.BeforeDropTable(ctx, q)
	}
	return nil
}

func (h *hooks) AfterDropTable(ctx context.Context, q *bun.DropTableQuery) error {
	if own, ok := h.zero.(bun.AfterDropTableHook); ok {
		return own.AfterDropTable(ctx, q)
	}
	return nil
}
