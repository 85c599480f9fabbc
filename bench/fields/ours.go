package fields

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

type customer struct {
	ID  int64            `db:"id"`
	Key field.Key        `db:"encrypted_kms_key"`
	A   field.Of[string] `db:"a_ciphertext"`
	B   field.Of[string] `db:"b_ciphertext"`
	C   field.Of[string] `db:"c_ciphertext"`
	D   field.Of[string] `db:"d_ciphertext"`
	E   field.Of[string] `db:"e_ciphertext"`
}

func (c *customer) fields() [5]*field.Of[string] {
	return [5]*field.Of[string]{&c.A, &c.B, &c.C, &c.D, &c.E}
}

func ours() store {
	box := job.OrPanic(kmsencrypted.NewBox(limit.NewKey()))
	m := job.OrPanic(field.NewModel[customer](box, field.Config{Table: "customers"}))
	return store{
		name: "kmsencrypted", bound: true,
		seal: func(id int) (r row, err error) {
			c := customer{ID: int64(id)}
			for i, f := range c.fields() {
				f.Set(limit.Plaintexts[i])
			}
			if err := m.Seal(context.Background(), &c); err != nil {
				return r, err
			}
			key, err := c.Key.Value()
			if err != nil {
				return r, err
			}
			r.key = key.(string)
			for i, f := range c.fields() {
				column, err := f.Value()
				if err != nil {
					return r, err
				}
				r.columns[i] = column.(string)
			}
			return r, nil
		},
		open: func(id int, r row) (texts [5]string, err error) {
			c := customer{ID: int64(id)}
			if err := c.Key.Scan(r.key); err != nil {
				return texts, err
			}
			for i, f := range c.fields() {
				if err := f.Scan(r.columns[i]); err != nil {
					return texts, err
				}
			}
			if err := m.Open(context.Background(), &c); err != nil {
				return texts, err
			}
			for i, f := range c.fields() {
				if texts[i], err = f.Get(); err != nil {
					return texts, err
				}
			}
			return texts, nil
		},
	}
}

// least is the least work that gives our columns. It binds them to table and column,
// and through the wrap of the key to the record, but commits to no key.
func least() store {
	kek := limit.GCM(limit.Random(32))
	return store{
		name: "limit", bound: true,
		seal: func(id int) (r row, err error) {
			c, key := limit.Wrap(kek, id, false)
			return row{key, c.Seal()}, nil
		},
		open: func(id int, r row) (texts [5]string, err error) {
			c, err := limit.Unwrap(kek, r.key, id, false)
			if err != nil {
				return texts, err
			}
			return c.Open(r.columns)
		},
	}
}
