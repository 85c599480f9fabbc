package field

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
)

// options are the options of a kms tag, such as `kms:"type=date,key=phone"`.
// Options are separated by commas; a value must not contain one.
type options struct {
	id        bool   // id: the field is (part of) the primary key
	context   bool   // context: of a plain column that encryption contexts are made of
	name      string // name=: of a Key, for fields to refer to
	key       string // key=: the name of the Key that seals the field
	as        string // as=: the column's name in what is bound, if the column was renamed
	valType   string // type=: date, time, datetime or json, and Lockbox's types
	padding   int    // padding=: plaintext is padded to a multiple of this many bytes
	migrating string // migrating=: the field that this one replaces
	migrated  string // migrated=: the same, at the end of the migration
	binary    bool   // binary: the column holds bytes, not base64 text

	// Ruby's form of the column, which a version of format Ruby writes.
	ruby      rubyForm // lockbox, attr_encrypted or activerecord
	algorithm string   // algorithm=: "aes-gcm", "xchacha20", …; the gem's default if empty
	ad        string   // ad=: Lockbox's associated data is this field of the struct
	master    bool     // master: under Lockbox's master key, not under a data key of the record; activerecord too
	keyTable  string   // key_table= and key_attribute=: names in the key's derivation, if renamed
	keyAttr   string
	mode      string // mode=: of attr_encrypted
	marshal   bool   // marshal: attr_encrypted's values went through Ruby's Marshal
	zeroIV    bool   // zero_iv: data of encryptor 2.0.0
	// encode=, encode_iv= and encode_salt= of attr_encrypted: m, m0 or raw.
	encode, encodeIV, encodeSalt string

	allowEmpty    bool   // allow_empty: attr_encrypted encrypts the empty value too
	deterministic bool   // deterministic: of activerecord
	downcase      bool   // downcase: of activerecord
	ignoreCase    string // ignore_case=: of activerecord, the field with the text as it was set
	of            string // of=: the column whose iv or salt a Part holds, the fields that an Index is of

	// Of an Index.
	expression string // expression=: names as in blindindex.ParseExpression
	slow       bool   // slow: the costly parameters of the algorithm
	size       int    // size= in bytes
	bits       int    // bits=: a truncated index
}

// rubyForm names the gem whose form a column has under a Ruby version.
type rubyForm string

const (
	lockboxForm       rubyForm = "lockbox"
	attrEncryptedForm rubyForm = "attr_encrypted"
	activeRecordForm  rubyForm = "activerecord"
)

// maxPadding keeps a typing error from filling a disk.
const maxPadding = 1 << 16

// option describes one option: what it sets, and whether it has a value.
type option struct {
	value bool
	set   func(o *options, value string) error
}

var knownOptions = map[string]option{
	"id":             {false, func(o *options, _ string) error { o.id = true; return nil }},
	"context":        {false, func(o *options, _ string) error { o.context = true; return nil }},
	"binary":         {false, func(o *options, _ string) error { o.binary = true; return nil }},
	"name":           {true, func(o *options, v string) error { o.name = v; return nil }},
	"key":            {true, func(o *options, v string) error { o.key = v; return nil }},
	"as":             {true, func(o *options, v string) error { o.as = v; return nil }},
	"type":           {true, func(o *options, v string) error { o.valType = v; return nil }},
	"lockbox":        {false, func(o *options, _ string) error { return o.setRuby(lockboxForm) }},
	"attr_encrypted": {false, func(o *options, _ string) error { return o.setRuby(attrEncryptedForm) }},
	"activerecord":   {false, func(o *options, _ string) error { o.master = true; return o.setRuby(activeRecordForm) }},
	"deterministic":  {false, func(o *options, _ string) error { o.deterministic = true; return nil }},
	"downcase":       {false, func(o *options, _ string) error { o.downcase = true; return nil }},
	"ignore_case": {true, func(o *options, v string) error {
		o.ignoreCase, o.deterministic, o.downcase = v, true, true
		return nil
	}},
	"algorithm":     {true, func(o *options, v string) error { o.algorithm = v; return nil }},
	"ad":            {true, func(o *options, v string) error { o.ad = v; return nil }},
	"master":        {false, func(o *options, _ string) error { o.master = true; return nil }},
	"key_table":     {true, func(o *options, v string) error { o.keyTable = v; return nil }},
	"key_attribute": {true, func(o *options, v string) error { o.keyAttr = v; return nil }},
	"mode":          {true, func(o *options, v string) error { o.mode = v; return nil }},
	"marshal":       {false, func(o *options, _ string) error { o.marshal = true; return nil }},
	"zero_iv":       {false, func(o *options, _ string) error { o.zeroIV = true; return nil }},
	"encode":        {true, func(o *options, v string) error { o.encode = v; return nil }},
	"encode_iv":     {true, func(o *options, v string) error { o.encodeIV = v; return nil }},
	"encode_salt":   {true, func(o *options, v string) error { o.encodeSalt = v; return nil }},
	"allow_empty":   {false, func(o *options, _ string) error { o.allowEmpty = true; return nil }},
	"of":            {true, func(o *options, v string) error { o.of = v; return nil }},
	"migrating":     {true, func(o *options, v string) error { o.migrating = v; return nil }},
	"migrated":      {true, func(o *options, v string) error { o.migrated = v; return nil }},
	"expression":    {true, func(o *options, v string) error { o.expression = v; return nil }},
	"slow":          {false, func(o *options, _ string) error { o.slow = true; return nil }},
	"size":          {true, func(o *options, v string) error { return number(&o.size, "size", v, blindindex.MaxSize) }},
	"bits":          {true, func(o *options, v string) error { return number(&o.bits, "bits", v, 8*blindindex.MaxSize) }},
	"padding":       {true, func(o *options, v string) error { return number(&o.padding, "padding", v, maxPadding) }},
}

// parseTag parses a kms tag and returns all errors at once, as
// [kmsencrypted.ErrConfig].
func parseTag(tag string) (o options, err error) {
	if tag == "" {
		return o, nil
	}
	var mistakes []error
	seen := make(map[string]bool)
	for word := range strings.SplitSeq(tag, ",") {
		name, value, hasValue := strings.Cut(strings.TrimSpace(word), "=")
		known, ok := knownOptions[name]
		switch {
		case !ok:
			mistakes = append(mistakes, fmt.Errorf("unknown option %q", name))
		case seen[name]:
			mistakes = append(mistakes, fmt.Errorf("option %s appears twice", name))
		case known.value != (hasValue && value != ""):
			mistakes = append(mistakes, fmt.Errorf("option %s takes %s value", name, map[bool]string{true: "a", false: "no"}[known.value]))
		default:
			if err := known.set(&o, value); err != nil {
				mistakes = append(mistakes, err)
			}
		}
		seen[name] = true
	}
	if len(mistakes) > 0 {
		return options{}, fmt.Errorf("%w: tag: %w", kmsencrypted.ErrConfig, errors.Join(mistakes...))
	}
	return o, nil
}

func number(into *int, name, text string, most int) (err error) {
	*into, err = strconv.Atoi(text)
	if err != nil || *into < 1 || *into > most {
		return fmt.Errorf("%s=%s, want a number from 1 to %d", name, text, most)
	}
	return nil
}

func (o *options) setRuby(form rubyForm) error {
	if o.ruby != "" {
		return errors.New("one column has one Ruby form: lockbox, attr_encrypted or activerecord")
	}
	o.ruby = form
	return nil
}

// hasAttrEncrypted reports whether an option is set that only attr_encrypted has.
func (o *options) hasAttrEncrypted() bool {
	return o.mode != "" || o.marshal || o.zeroIV || o.encode != "" || o.encodeIV != "" || o.encodeSalt != "" || o.allowEmpty
}

// misplaced returns an error text for options that have no effect on an encrypted
// column.
func (o *options) misplaced() string {
	switch {
	case o.of != "", o.expression != "", o.slow, o.size != 0, o.bits != 0:
		return "the options of, expression, slow, size and bits are for a field.Index"
	case o.ruby == "" && o.algorithm != "":
		return "the option algorithm needs lockbox or attr_encrypted"
	case o.ruby != attrEncryptedForm && o.hasAttrEncrypted():
		return "the options mode, marshal, zero_iv, encode, encode_iv, encode_salt and allow_empty need attr_encrypted"
	case o.ruby != activeRecordForm && (o.deterministic || o.downcase):
		return "the options deterministic, downcase and ignore_case need activerecord"
	case o.ruby == activeRecordForm && (o.algorithm != "" || o.padding != 0 || o.ad != "" || o.as != "" || o.keyTable != "" || o.keyAttr != ""):
		return "activerecord takes the options deterministic, downcase, ignore_case, type, binary, migrating and migrated"
	case !o.master && (o.keyTable != "" || o.keyAttr != ""):
		return "the options key_table and key_attribute need master"
	}
	return ""
}
