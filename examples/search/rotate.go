package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// newIndexKey is the master key that the index of addresses moves to.
var newIndexKey = masterKey("another!")

// Rotating is a customer with the second index beside the first: what the
// program looks like in the second deployment and the third.
type Rotating struct {
	Customer
	EmailIndexV2 field.Index `db:"email_bidx_v2" kms:"of=Email"` // under newIndexKey
}

func newRotating(box *kmsencrypted.Box, domains *blindindex.Index) (*field.Model[Rotating], error) {
	addresses, err := blindindex.Derive(newIndexKey, "customers", "email_bidx_v2", blindindex.Options{Expression: blindindex.Lower})
	if err != nil {
		return nil, err
	}
	return field.NewModel[Rotating](box, field.Config{
		Table:    "customers",
		IndexKey: indexKey,
		Indexes:  map[string]*blindindex.Index{"email_domain_bidx": domains, "email_bidx_v2": addresses},
	})
}

// rotate moves the index of addresses to another key, as four deployments do:
//
//  1. the column is added; programs do not know it;
//  2. programs write both columns and search the first, which also keeps addresses
//     unique. When the last program of before has ended, the second column is
//     filled and gets a unique index of its own;
//  3. programs search the second column;
//  4. programs no longer know the first column, and it is dropped.
func rotate(ctx context.Context, db *sqlx.DB, before *field.Model[Customer], m *field.Model[Rotating], out io.Writer) error {
	if _, err := db.ExecContext(ctx, `ALTER TABLE customers ADD email_bidx_v2 TEXT`); err != nil {
		return err
	}
	report := func(stage, column string) error {
		n, err := countFound(ctx, db, m, column)
		fmt.Fprintf(out, "  %-34s %d of %d found by %s\n", stage, n, len(people), column)
		return err
	}
	if err := report("second column added:", "email_bidx"); err != nil {
		return err
	}
	if err := whileBothWrite(ctx, db, before, m, out); err != nil {
		return err
	}
	if err := report("Ada has moved twice:", "email_bidx"); err != nil {
		return err
	}

	// Now all programs write both. One customer moves while the column is filled.
	filled, skipped, err := backfill(ctx, db, m, func() error {
		return change(ctx, db, m, 3, func(c *Rotating) { c.Email.Set("alonzo@new.example") })
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  filled %d rows; %d was changed meanwhile, with both indexes\n", filled, skipped)
	if _, err := db.ExecContext(ctx, `CREATE UNIQUE INDEX customers_email_v2 ON customers (email_bidx_v2)`); err != nil {
		return err
	}
	if err := report("second column filled:", "email_bidx"); err != nil {
		return err
	}
	if err := report("", "email_bidx_v2"); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `DROP INDEX customers_email; ALTER TABLE customers DROP email_bidx`)
	return err
}

// whileBothWrite is the time in which some programs write both columns, and those
// of before write the first and leave what is in the second.
func whileBothWrite(ctx context.Context, db *sqlx.DB, before *field.Model[Customer], m *field.Model[Rotating], out io.Writer) error {
	if err := change(ctx, db, m, 1, func(c *Rotating) { c.Email.Set("ada@new.example") }); err != nil {
		return err
	}
	if err := change(ctx, db, before, 1, func(c *Customer) { c.Email.Set("ada@newer.example") }); err != nil {
		return err
	}
	err := change(ctx, db, m, 2, func(c *Rotating) { c.Email.Set("BARBARA@mit.example") })
	if !errors.Is(err, errTaken) {
		return fmt.Errorf("moved to a taken address: %w", err)
	}
	fmt.Fprintf(out, "  Alan moves to Barbara's address:   %v\n", err)
	return nil
}

// backfill computes the indexes of every row, not only where the second is NULL:
// a program of before may have changed an address and left the second index of
// the old one. A row is written only if its address is still the one that was
// read; who changed it meanwhile has written both indexes.
func backfill(ctx context.Context, db *sqlx.DB, m *field.Model[Rotating], meanwhile func() error) (filled, skipped int, err error) {
	for page, err := range pages(ctx, db, m) {
		if err != nil {
			return filled, skipped, err
		}
		if err := m.Reindex(ctx, page...); err != nil { // on all processors
			return filled, skipped, err
		}
		if filled == 0 {
			if err := meanwhile(); err != nil {
				return filled, skipped, err
			}
		}
		for _, c := range page {
			switch err := save(ctx, db, m, c, c.ID); {
			case err == nil:
				filled++
			case errors.Is(err, kmsencrypted.ErrConflict):
				skipped++
			default:
				return filled, skipped, err
			}
		}
	}
	return filled, skipped, nil
}

// pages yields all customers, opened, some at a time.
func pages(ctx context.Context, db *sqlx.DB, m *field.Model[Rotating]) iter.Seq2[[]*Rotating, error] {
	return func(yield func([]*Rotating, error) bool) {
		const perPage = 10
		for last := int64(0); ; {
			var page []Rotating
			err := db.SelectContext(ctx, &page, selectFrom(m)+` WHERE id > ? ORDER BY id LIMIT ?`, last, perPage)
			if err == nil {
				err = m.Open(ctx, field.Pointers(page)...)
			}
			if err != nil || len(page) == 0 {
				if err != nil {
					yield(nil, err)
				}
				return
			}
			if !yield(field.Pointers(page), nil) {
				return
			}
			last = page[len(page)-1].ID
		}
	}
}

// countFound counts the customers who are found by their own address.
func countFound(ctx context.Context, db *sqlx.DB, m *field.Model[Rotating], column string) (found int, err error) {
	for page, err := range pages(ctx, db, m) {
		if err != nil {
			return found, err
		}
		for _, c := range page {
			lookup := m.Lookup(column, strings.ToUpper(c.Email.Must()))
			hits, err := rows(ctx, db, m, lookup)
			if err != nil {
				return found, err
			}
			if slices.ContainsFunc(hits, func(hit Rotating) bool { return hit.ID == c.ID }) {
				found++
			}
		}
	}
	return found, nil
}

// change changes a customer: a program of before writes the indexes that it
// knows, one of the second deployment both.
func change[R any](ctx context.Context, db *sqlx.DB, m *field.Model[R], id int64, set func(*R)) error {
	var c R
	if err := db.GetContext(ctx, &c, selectFrom(m)+` WHERE id = ?`, id); err != nil {
		return err
	}
	set(&c)
	if err := m.Seal(ctx, &c); err != nil {
		return err
	}
	return save(ctx, db, m, &c, id)
}

// save writes what changed in a customer, if the row still holds what it was
// made from; else it is ErrConflict.
func save[R any](ctx context.Context, db *sqlx.DB, m *field.Model[R], c *R, id int64) error {
	w, err := m.Adapter().Write(c)
	if err != nil || len(w.Set) == 0 {
		return err
	}
	var set []string
	var args []any
	for _, a := range w.Set {
		set, args = append(set, a.Column+" = ?"), append(args, a.Value)
	}
	where, args := "id = ?", append(args, id)
	for _, a := range w.Where {
		where, args = where+" AND "+a.Column+" IS ?", append(args, a.Value) // IS: NULL equals NULL
	}
	result, err := db.ExecContext(ctx, `UPDATE customers SET `+strings.Join(set, ", ")+` WHERE `+where, args...)
	if err != nil {
		return taken(err)
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = fmt.Errorf("customer %d: %w", id, kmsencrypted.ErrConflict)
	}
	return err
}
