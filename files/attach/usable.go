package attach

import (
	"slices"

	"github.com/kmsencrypted/kmsencrypted/internal/missing"
)

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Manager, for an argument that
// is nil, and for an attachment of a record of another table.
func (m *Manager[R]) usable(given ...any) error {
	if m == nil || m.db == nil {
		return configError("the Manager was not made by New")
	}
	if err := allGiven(given); err != nil {
		return err
	}
	for _, arg := range given {
		if a, ok := arg.(*Attachment); ok && a.Table != "" && a.Table != m.model.BoundTable() {
			return a.failed("use", errOtherTable)
		}
	}
	return nil
}

// usable is the same for a nil or zero Rails.
func (r *Rails[R]) usable(given ...any) error {
	if r == nil || r.db == nil {
		return configError("the Rails was not made by NewRails")
	}
	return allGiven(given)
}

// usable is the same for a nil or zero Pending.
func (p *Pending[R]) usable(given ...any) error {
	if p == nil || p.manager == nil {
		return configError("the Pending was not made by Upload, Replace or Derive")
	}
	return allGiven(given)
}

// usable is the same for a nil or zero RailsPending.
func (p *RailsPending[R]) usable(given ...any) error {
	if p == nil || p.rails == nil {
		return configError("the RailsPending was not made by Upload")
	}
	return allGiven(given)
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Dir.
func (d *Dir) usable() error {
	if d == nil || d.root == nil {
		return configError("the Dir was not made by OpenDir")
	}
	return nil
}

// lock locks a File, unless it is nil or zero, which is the same error.
func (f *File) lock() error {
	if f != nil {
		if f.mu.Lock(); f.at != nil {
			return nil
		}
		f.mu.Unlock()
	}
	return configError("the File was not opened by a Manager or Rails")
}

func allGiven(given []any) error {
	if slices.ContainsFunc(given, missing.Is) {
		return configError("a record, attachment, reader, function or transaction is nil")
	}
	return nil
}
