package field

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
)

// activeRecordColumn is a column in the form of ActiveRecord Encryption. Its keys are
// those of the application, so it seals and opens by itself.
type activeRecordColumn struct {
	values    codec
	attribute *activerecord.Attribute
	encoding  string
	binary    bool
}

func newActiveRecordColumn(s *schema, f *fieldSpec, t reflect.Type) (rubyColumn, error) {
	if s.config.ActiveRecord == nil {
		return nil, fmt.Errorf("%w: a column tagged activerecord needs Config.ActiveRecord", kmsencrypted.ErrConfig)
	}
	scheme := s.config.ActiveRecordSchemes[f.column]
	scheme.Deterministic = scheme.Deterministic || f.deterministic
	scheme.Downcase = scheme.Downcase || f.downcase
	if scheme.MessagePack && !f.binary {
		return nil, fmt.Errorf("%w: MessagePack is for columns tagged binary", kmsencrypted.ErrConfig)
	}
	c := &activeRecordColumn{binary: f.binary}
	var err error
	if c.attribute, err = s.config.ActiveRecord.Attribute(scheme); err != nil {
		return nil, err
	}
	c.values, err = chooseRuby(t, f.valType, s.config, activeRecordTypeOf, func(name string) (rubyType, error) {
		typ, err := activerecord.ParseType(name, s.config.YAML)
		c.encoding = typ.Encoding()
		return typ, err
	})
	if c.encoding == "" { // a type of Config.Types
		c.encoding = activerecord.EncodingUTF8
	}
	c.values = nullCodec(t, c.values)
	return c, err
}

// assignSchemes finds the columns of Config.ActiveRecordSchemes and Config.LockboxBoxes.
func (b *builder) assignSchemes() {
	for column := range b.config.LockboxBoxes {
		if !slices.ContainsFunc(b.fields, func(f *fieldSpec) bool { return f.column == column && f.ruby == lockboxForm && f.master }) {
			b.mistake(column, "Config.LockboxBoxes has a box for it, and the struct no field tagged lockbox,master")
		}
	}
	for column := range b.config.ActiveRecordSchemes {
		if !slices.ContainsFunc(b.fields, func(f *fieldSpec) bool { return f.column == column && f.ruby == activeRecordForm }) {
			b.mistake(column, "Config.ActiveRecordSchemes has a scheme for it, and the struct no field tagged activerecord")
		}
	}
}

// activeRecordTypeOf returns the type of Rails that suits a Go type. Addresses are text.
func activeRecordTypeOf(t reflect.Type) string {
	if t == reflect.TypeFor[netip.Prefix]() || t == reflect.TypeFor[netip.Addr]() {
		return "string"
	}
	return lockboxTypeOf(t)
}

func (c *activeRecordColumn) codec() *codec { return &c.values }

// storesEmpty is false: Rails encrypts the empty text.
func (c *activeRecordColumn) storesEmpty() bool { return false }

func (c *activeRecordColumn) variant() string { return "activerecord" }

func (c *activeRecordColumn) under([]byte) (rubySealer, error) { return c, nil }

func (c *activeRecordColumn) seal(plaintext, _ []byte, isBinary bool, _ *scratch) (columns, error) {
	column, err := c.attribute.Encrypt(activerecord.NewText(plaintext, c.encoding))
	return columns{value: stored{text: string(column), binary: isBinary}}, err
}

func (c *activeRecordColumn) open(stored columns, _ []byte, _ bool, buf *scratch) ([]byte, error) {
	text, err := c.attribute.Decrypt([]byte(stored.value.text))
	if err != nil {
		return nil, err
	}
	plaintext, err := text.UTF8()
	if err != nil {
		return nil, err
	}
	buf.plain = plaintext
	return plaintext, nil
}

// mayHoldPlaintext reports whether a text that equals what was read from the column may
// be a value: Rails can be told to read plaintext.
func (f *fieldSpec) mayHoldPlaintext(text []byte) bool {
	c, ok := f.rubyColumn.(*activeRecordColumn)
	return ok && !c.attribute.IsMessage(text)
}

// readsPlaintext reports whether Rails may have left plaintext in the column.
func (f *fieldSpec) readsPlaintext() bool {
	c, ok := f.rubyColumn.(*activeRecordColumn)
	return ok && c.attribute.ReadsPlaintext()
}

// activeRecordColumns returns the fields in the form of ActiveRecord Encryption.
func (s *schema) activeRecordColumns() (list []*fieldSpec) {
	for _, k := range s.keys {
		for _, f := range k.fields {
			if f.ruby == activeRecordForm {
				list = append(list, f)
			}
		}
	}
	return list
}

// staleColumns returns the columns of opened records that [activerecord.Attribute.Encrypt]
// would write under another key or scheme. They can be compared with their plaintext only.
func (w *work) staleColumns() (stale []*slot) {
	for i := range w.groups {
		g := &w.groups[i]
		for n := range g.slots {
			s := &g.slots[n]
			c, ok := s.spec.rubyColumn.(*activeRecordColumn)
			if h := s.head(); !ok || h.state == null || h.state == plain || h.state == opened && h.changed() {
				continue
			} else if h.state != opened {
				g.fail("index", s.spec.column, errNotKnown(h))
				continue
			} else if current, err := c.attribute.IsCurrent([]byte(h.stored.text)); err != nil {
				g.fail("index", s.spec.column, err)
			} else if !current {
				stale = append(stale, s)
			}
		}
	}
	return stale
}

func errNotKnown(h *head) error {
	if h.state == closed {
		return kmsencrypted.ErrNotOpened
	}
	return kmsencrypted.ErrNotLoaded
}

// encryptAgain encrypts columns of opened records under the newest key and scheme.
func (w *work) encryptAgain() {
	stale := w.staleColumns()
	buf := newScratch()
	defer buf.release()
	for i := range w.groups {
		g := &w.groups[i]
		for n := range g.slots {
			s := &g.slots[n]
			if !slices.Contains(stale, s) || g.err != nil {
				continue
			}
			if err := g.sealField(s, buf); err != nil {
				g.fail("index", s.spec.column, err)
				continue
			}
			h := s.head()
			h.stored, h.again = s.columns.value, true
			s.changed = false
		}
		if g.err != nil {
			g.recordWork.err = errors.Join(g.recordWork.err, g.err)
		}
	}
}

// checkAgain gives records an error whose columns encryptAgain would change.
func (w *work) checkAgain() {
	stale := w.staleColumns()
	for i := range w.groups {
		g := &w.groups[i]
		for n := range g.slots {
			if s := &g.slots[n]; slices.Contains(stale, s) {
				g.fail("compare", s.spec.column, fmt.Errorf("%w (it is under an older key or scheme of Rails)", kmsencrypted.ErrStaleIndex))
			}
		}
		if g.err != nil {
			g.recordWork.err = errors.Join(g.recordWork.err, g.err)
		}
	}
}

// findActiveRecord returns the field in the form of ActiveRecord Encryption with a name or
// column.
func (s *schema) findActiveRecord(name string) (*fieldSpec, bool) {
	for _, f := range s.activeRecordColumns() {
		if f.goName == name || f.column == name {
			return f, true
		}
	}
	return nil, false
}

// lookupColumn returns what to search for in a deterministic column, which is its own
// index: as Rails writes the values now, and under each previous scheme.
func (c *core) lookupColumn(f *fieldSpec, values []any) Lookup {
	column := f.rubyColumn.(*activeRecordColumn)
	l := blindindex.Lookup{Name: f.column}
	sought := make(map[string]bool, len(values))
	for _, value := range values {
		found, isNull, err := column.lookup(f.goType, value)
		if err != nil {
			return Lookup{err: fmt.Errorf("field: look-up in %s: %w", f.column, err)}
		}
		if isNull {
			l.Null = true
			continue
		}
		sought[string(found[0])] = true
		for _, stored := range found {
			indexed := blindindex.TextColumn(string(stored))
			if column.binary {
				indexed = blindindex.BytesColumn(stored)
			}
			if !slices.Contains(l.Columns, indexed) {
				l.Columns = append(l.Columns, indexed)
			}
		}
	}
	return Lookup{Lookup: l, matches: func(row any) (bool, error) {
		r, err := c.recordOf(row)
		if err != nil {
			return false, err
		}
		switch o := r.field(f); o.head().state {
		case null:
			return l.Null, nil
		case plain, opened:
			found, isNull, err := column.lookup(f.goType, o.plaintext().Interface())
			if err != nil || isNull {
				return isNull && l.Null, err
			}
			return sought[string(found[0])], nil
		default:
			return false, r.failed("look up", f.column, errNotKnown(o.head()))
		}
	}}
}

// lookup returns what the column may hold for a value of the field's type, or of one that
// converts to it without a loss.
func (c *activeRecordColumn) lookup(t reflect.Type, value any) (found [][]byte, null bool, err error) {
	if value == nil {
		return nil, true, nil
	}
	given := reflect.New(reflect.TypeOf(value)).Elem() // addressable
	given.Set(reflect.ValueOf(value))
	if isNull(given) {
		return nil, true, nil
	}
	v := given
	if given.Type() != t {
		converted, ok := convertExactly(reflect.ValueOf(indirect(given)), indirectType(t))
		if !ok {
			return nil, false, fmt.Errorf("%w: a %v for a column of %v", kmsencrypted.ErrConfig, given.Type(), t)
		}
		v = reflect.New(t).Elem()
		if err := assignIndirect(v, converted.Interface()); err != nil {
			return nil, false, err
		}
	}
	text, null, err := c.values.write(nil, v)
	if err != nil || null {
		return nil, null, err
	}
	found, err = c.attribute.Lookup(activerecord.NewText(text, c.encoding))
	return found, false, err
}

// convertExactly converts between types of one kind, and between integers if the number
// fits.
func convertExactly(v reflect.Value, t reflect.Type) (reflect.Value, bool) {
	if v.Type() == t {
		return v, true
	}
	isInt := func(v reflect.Value) bool { return v.CanInt() || v.CanUint() }
	zero := reflect.Zero(t)
	switch {
	case isInt(v) && isInt(zero):
		out := v.Convert(t)
		negative := v.CanInt() && v.Int() < 0 || out.CanInt() && out.Int() < 0
		same := out.Convert(v.Type()).Equal(v) && (!negative || v.CanInt() && out.CanInt())
		return out, same
	case v.Kind() == t.Kind() && v.CanConvert(t) && v.Kind() != reflect.Struct:
		return v.Convert(t), true
	}
	return v, false
}

// Rails stores an attribute with ignore_case: true in two columns: original_name has the
// text, and name its lower case to search for. The field of the second is tagged
// ignore_case= with the first, and gets its value from there.

// assignIgnoringCase finds the fields in the tags ignore_case=.
func (b *builder) assignIgnoringCase(t reflect.Type) {
	for _, f := range b.fields {
		if f.ignoreCase == "" {
			continue
		}
		for _, o := range b.fields {
			if o.goName == f.ignoreCase || o.goName == scopeOf(f.goName)+f.ignoreCase {
				f.original = o
			}
		}
		if f.original == nil || f.original.ruby != activeRecordForm || f.original.goType != f.goType {
			b.mistake(f.goName, "ignore_case=%s names no field of %v tagged activerecord of the same type", f.ignoreCase, t)
			continue
		}
		b.ignoringCase = append(b.ignoringCase, f)
	}
}

// putIgnoringCase gives fields tagged ignore_case= the value of the one that the program
// set.
func (r *record) putIgnoringCase() error {
	for _, f := range r.schema.ignoringCase {
		o, original := r.field(f), r.field(f.original)
		switch h := original.head(); {
		case h.state == plain:
			o.set(reflect.ValueOf(indirect(original.plaintext())))
		case h.dirty():
			o.set(reflect.Value{})
		case o.head().dirty():
			return r.failed("seal", f.column, fmt.Errorf("%w: set %s, which it is the lower case of", kmsencrypted.ErrConfig, f.original.goName))
		}
	}
	return nil
}
