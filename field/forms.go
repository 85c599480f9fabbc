package field

import (
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/internal/nativefield"
	"github.com/kmsencrypted/kmsencrypted/internal/strict64"
)

// ColumnForm is what a model writes into one of its columns.
type ColumnForm struct {
	Column string
	IsKey  bool // a wrapped data key, whose length depends on the provider
	Binary bool // bytes, otherwise text
	// Least is the number of bytes or characters of the shortest value that is not NULL
	// or empty; 0 if it is unknown.
	Least int
	Fixed bool // all values have the length Least
	// Holds reports whether the column may hold these bytes, if more than their length
	// tells; otherwise it is nil. A column of Rails' encrypts holds messages, and
	// plaintext if Rails reads it.
	Holds func(column []byte) bool
	// Blank means that a record without a data key may hold the empty value here, because
	// Ruby stores it as it is.
	Blank bool
}

// Forms describes the columns of [Adapter.Columns], except parts of attr_encrypted
// values.
func (a Adapter[R]) Forms() []ColumnForm { return a.inner().spec().columnForms() }

func (s *schema) columnForms() (forms []ColumnForm) {
	for _, k := range s.keys {
		if !k.isMaster {
			forms = append(forms, ColumnForm{Column: k.column, IsKey: true})
		}
		for _, f := range k.fields {
			forms = append(forms, ColumnForm{Column: f.column, Binary: f.binary, Least: f.least(), Holds: f.holds(), Blank: !k.isMaster && f.rubyColumn != nil && f.rubyColumn.storesEmpty()})
		}
	}
	for _, x := range s.indexes {
		_, given := s.config.Indexes[x.column]
		forms = append(forms, ColumnForm{Column: x.column, Binary: x.binary, Least: x.least(given), Fixed: true})
	}
	return forms
}

func (f *fieldSpec) holds() func(column []byte) bool {
	c, ok := f.rubyColumn.(*activeRecordColumn)
	if !ok {
		return nil
	}
	return func(column []byte) bool { return c.attribute.ReadsPlaintext() || c.attribute.IsMessage(column) }
}

func (f *fieldSpec) least() int {
	switch {
	case f.ruby == activeRecordForm, f.ruby != "" && f.binary: // or plaintext, if Rails reads it
		return 0
	case f.ruby != "":
		return leastRubyText
	case f.binary:
		return nativefield.Overhead
	}
	return leastNativeText
}

// least is the size of every value of the index, unless it was given to the model.
func (x *indexSpec) least(given bool) int {
	size := blindindex.MaxSize
	switch {
	case given:
		return 0
	case x.size > 0:
		size = x.size
	case x.bits > 0:
		size = (x.bits + 7) / 8
	}
	if x.binary {
		return size
	}
	return strict64.EncodedLen(size)
}
