package rotatecli

import (
	"context"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/relation"
)

// counted is like some, for commands that count records: it returns
// [kmsencrypted.ErrConfig] if one of the tables is a part of another, such as a
// partition or a view, so that its records would count twice.
func (s *Session) counted(ctx context.Context, names []string) ([]*table, error) {
	tables, err := s.some(ctx, names)
	if err != nil || len(tables) < 2 {
		return tables, err
	}
	relations, byID := make([]relation.Relation, len(tables)), make(map[string]*table)
	for i, t := range tables {
		r, err := relation.Of(ctx, t.database.DB, t.database.Dialect, t.name, t.model.IDColumns(), t.model.KeyColumns())
		if err != nil {
			return nil, err
		}
		relations[i], byID[r.ID] = r, t
	}
	for i, r := range relations {
		for _, w := range r.Wholes {
			if whole := byID[w.ID]; whole != nil {
				return nil, fmt.Errorf("%w: %s is a part of %s, and its records would count twice: declare one of them, or name one by --table",
					kmsencrypted.ErrConfig, tables[i].name, whole.name)
			}
		}
	}
	return tables, nil
}
