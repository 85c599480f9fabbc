// Package kmspgx holds no code: github.com/jackc/pgx needs no adapter. Columns of
// package field are arguments of a query, a batch and CopyFrom as they are, and
// pgx.RowToStructByName reads them, with the same db tags. What is left to do is
// Model.Seal before and Model.Open after.
//
// The tests of this package are the recipes, run on a real PostgreSQL; the guide
// is docs/database.md.
package kmspgx
