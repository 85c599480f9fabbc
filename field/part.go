package field

import (
	"database/sql/driver"

	"github.com/kmsencrypted/kmsencrypted"
)

// Part is a column that belongs to an attr_encrypted value: its iv or its salt. It is
// filled when the value is sealed and read when it is opened. Its column is that of the
// value with the suffix "_iv" or "_salt"; if it has another name, the tag of= names the
// value's column. Its content is not secret.
type Part struct {
	h head
}

// Scan reads the column from the database; it implements [sql.Scanner].
func (p *Part) Scan(src any) error { return p.h.scan(src) }

// Value returns the column for the database; it implements [driver.Valuer]. It returns
// [kmsencrypted.ErrNotLoaded] for a part that was neither read nor sealed with its
// record.
func (p Part) Value() (driver.Value, error) {
	if p.h.state == unset {
		return nil, kmsencrypted.ErrNotLoaded
	}
	return p.h.stored.value(), nil
}

// partSpec is the column of a Part: the iv or the salt of another column.
type partSpec struct {
	column, of, kind string
	index            []int
}

// parts returns the columns of iv and salt of a field, if it has them.
func (f *fieldSpec) parts() (parts []*partSpec) {
	for _, p := range []*partSpec{f.iv, f.salt} {
		if p != nil {
			parts = append(parts, p)
		}
	}
	return parts
}

func (r *record) partField(p *partSpec) *Part { return r.at(p.index).Addr().Interface().(*Part) }

// parts returns the iv and salt of a field, or nil.
func (r *record) parts(f *fieldSpec) *parts {
	if f.iv == nil && f.salt == nil {
		return nil
	}
	return &parts{iv: r.part(f.iv), salt: r.part(f.salt)}
}

func (r *record) part(spec *partSpec) stored {
	if spec == nil {
		return nullColumn
	}
	return r.partField(spec).h.stored
}

// loadedParts returns the iv and salt of a field as they were read.
func (r *record) loadedParts(f *fieldSpec) *parts {
	loaded := func(spec *partSpec) stored {
		if spec == nil {
			return nullColumn
		}
		return r.partField(spec).h.loaded
	}
	return &parts{iv: loaded(f.iv), salt: loaded(f.salt)}
}

// setParts stores iv and salt; nil empties them.
func (r *recordWork) setParts(f *fieldSpec, p *parts) {
	if f.iv == nil && f.salt == nil {
		return
	}
	if p == nil {
		p = &parts{nullColumn, nullColumn}
	}
	r.setPart(f.iv, p.iv)
	r.setPart(f.salt, p.salt)
}

func (r *recordWork) setPart(spec *partSpec, to stored) {
	if spec == nil {
		return
	}
	h := &r.partField(spec).h
	h.state, h.stored = closed, to
	if to.null {
		h.state = null
	}
	if r.isNew {
		h.read, h.loaded, h.sent = false, stored{}, nil
	}
}
