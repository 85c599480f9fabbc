package kmspgx

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// refused are the rows of a query that was not sent.
type refused struct{ err error }

// TypeMap belongs to the interface from pgx 5.12.
func (r refused) TypeMap() *pgtype.Map { return pgtype.NewMap() }

func (r refused) Close()                                       {}
func (r refused) Err() error                                   { return r.err }
func (r refused) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (r refused) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r refused) Next() bool                                   { return false }
func (r refused) Scan(...any) error                            { return r.err }
func (r refused) Values() ([]any, error)                       { return nil, r.err }
func (r refused) RawValues() [][]byte                          { return nil }
func (r refused) Conn() *pgx.Conn                              { return nil }
