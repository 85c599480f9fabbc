package programs

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
)

const tableName = "records"

// Values are the columns that both releases know.
type Values struct {
	Tenant    string                   `db:"tenant" kms:"context"`
	Title     string                   `db:"title"`
	Key       field.Key                `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Name      field.Of[string]         `db:"name_ciphertext" gorm:"column:name_ciphertext;type:text"`
	Note      field.Of[*string]        `db:"note_ciphertext" gorm:"column:note_ciphertext;type:text"`
	Blob      field.Of[[]byte]         `db:"blob_ciphertext" kms:"binary" gorm:"column:blob_ciphertext;type:blob"`
	Tags      field.Of[map[string]int] `db:"tags_ciphertext" gorm:"column:tags_ciphertext;type:text"`
	NameIndex field.Index              `db:"name_bidx" kms:"of=Name,expression=lower,algorithm=hmac_sha256" gorm:"column:name_bidx;type:text"`
}

func (v *Values) values() *Values { return v }

// Newer is the column that the new release adds.
type Newer struct {
	Extra field.Of[*string] `db:"extra_ciphertext" gorm:"column:extra_ciphertext;type:text"`
}

func (n *Newer) newer() *Newer { return n }

// The primary keys.
type (
	NumberID struct {
		ID int64 `db:"id"`
	}
	PairID struct {
		Shop   int64 `db:"shop" kms:"id" gorm:"primaryKey;autoIncrement:false"`
		Number int64 `db:"number" kms:"id" gorm:"primaryKey;autoIncrement:false"`
	}
	TextID struct {
		ID string `db:"id"`
	}
)

func (NumberID) TableName() string { return tableName }
func (PairID) TableName() string   { return tableName }
func (TextID) TableName() string   { return tableName }

func (i *NumberID) setID(text string) { i.ID, _ = strconv.ParseInt(text, 10, 64) }
func (i *PairID) setID(text string)   { _, _ = fmt.Sscanf(text, "%d/%d", &i.Shop, &i.Number) }
func (i *TextID) setID(text string)   { i.ID = text }

func (i *NumberID) id() string {
	if i.ID == 0 {
		return ""
	}
	return strconv.FormatInt(i.ID, 10)
}
func (i *PairID) id() string { return fmt.Sprintf("%d/%d", i.Shop, i.Number) }
func (i *TextID) id() string { return i.ID }

func (i *NumberID) args() []any { return []any{i.ID} }
func (i *PairID) args() []any   { return []any{i.Shop, i.Number} }
func (i *TextID) args() []any   { return []any{i.ID} }

// The structs of the two releases.
type (
	numberOld struct {
		NumberID
		Values
	}
	numberNew struct {
		NumberID
		Values
		Newer
	}
	pairOld struct {
		PairID
		Values
	}
	pairNew struct {
		PairID
		Values
		Newer
	}
	textOld struct {
		TextID
		Values
	}
	textNew struct {
		TextID
		Values
		Newer
	}
)

// record is a pointer to one of them.
type record interface {
	values() *Values
	id() string // "" while the database has not made it
	setID(string)
	args() []any
}

// column is an encrypted column whose values are made of a text, nil for NULL.
type column struct {
	name string
	set  func(r record, text *string)
	get  func(r record) (*string, error)
	// change changes the value in place and returns what it is then. Columns of
	// types that cannot be changed have none.
	change func(r record, text string) (string, bool)
}

var columns = []column{
	{
		name: "name",
		set: func(r record, text *string) {
			if text == nil {
				r.values().Name.SetNull()
			} else {
				r.values().Name.Set(*text)
			}
		},
		get: func(r record) (*string, error) {
			text, err := r.values().Name.Get()
			if r.values().Name.IsNull() {
				return nil, err
			}
			return &text, err
		},
	},
	{
		name: "note",
		set:  func(r record, text *string) { r.values().Note.Set(text) },
		get:  func(r record) (*string, error) { return r.values().Note.Get() },
	},
	{
		name: "blob",
		set: func(r record, text *string) {
			if text == nil {
				r.values().Blob.Set(nil)
			} else {
				r.values().Blob.Set([]byte(*text))
			}
		},
		get: func(r record) (*string, error) {
			b, err := r.values().Blob.Get()
			if r.values().Blob.IsNull() {
				return nil, err
			}
			return new(string(b)), err
		},
		change: func(r record, _ string) (string, bool) {
			b, err := r.values().Blob.Get()
			if err != nil || len(b) == 0 {
				return "", false
			}
			b[0] ^= 1
			return string(b), true
		},
	},
	{
		name: "tags",
		set: func(r record, text *string) {
			switch {
			case text == nil:
				r.values().Tags.Set(nil)
			case *text == "":
				r.values().Tags.Set(map[string]int{})
			default:
				r.values().Tags.Set(map[string]int{*text: 1})
			}
		},
		get: func(r record) (*string, error) {
			m, err := r.values().Tags.Get()
			if r.values().Tags.IsNull() {
				return nil, err
			}
			return new(strings.Join(slices.Sorted(maps.Keys(m)), "|")), err
		},
		change: func(r record, text string) (string, bool) {
			m, err := r.values().Tags.Get()
			if err != nil || m == nil {
				return "", false
			}
			clear(m)
			m[text] = 1
			return text, true
		},
	},
	{
		name: "extra",
		set:  func(r record, text *string) { r.(newer).newer().Extra.Set(text) },
		get:  func(r record) (*string, error) { return r.(newer).newer().Extra.Get() },
	},
}

type newer interface{ newer() *Newer }

// columnsOf are those that a record has.
func columnsOf(r record) []column {
	if _, isNew := r.(newer); isNew {
		return columns
	}
	return columns[:len(columns)-1]
}

func columnOf(r record, name string) (column, bool) {
	for _, c := range columnsOf(r) {
		if c.name == name {
			return c, true
		}
	}
	return column{}, false
}

// valuesOf are the values of an opened record.
func valuesOf(r record) (map[string]*string, error) {
	values := make(map[string]*string)
	for _, c := range columnsOf(r) {
		value, err := c.get(r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		values[c.name] = value
	}
	return values, nil
}
