package field

// Columns that depend on each other: whoever changes one of them for many records
// has to know which others must not have changed meanwhile.

// Replacement is a column that replaces another one, by the tag migrating=.
type Replacement struct{ Column, Old string }

// Replacements lists the columns that replace others.
func (m *Model[R]) Replacements() (list []Replacement) {
	for _, f := range m.migrating() {
		list = append(list, Replacement{f.column, f.oldColumn})
	}
	return list
}

// IndexColumn is the column of a blind index and those it is computed from.
type IndexColumn struct {
	Column  string
	Sources []string
}

// IndexColumns lists the blind indexes, in the order of the struct.
func (m *Model[R]) IndexColumns() (list []IndexColumn) {
	for _, x := range m.schema.indexes {
		index := IndexColumn{Column: x.column}
		for _, s := range x.sources {
			index.Sources = append(index.Sources, s.column)
		}
		list = append(list, index)
	}
	return list
}
