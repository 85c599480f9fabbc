package field

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

// options are what a kms tag says, such as `kms:"type=date,key=phone"`. Options
// are separated by commas; a value may not hold one.
type options struct {
	id      bool   // id: the field is (part of) the primary key
	name    string // name=: of a Key, for fields to refer to
	key     string // key=: the name of the Key that seals the field
	as      string // as=: the column's name in what is bound, if the column was renamed
	valType string // type=: date, time, datetime or json
	padding int    // padding=: plaintext is padded to a multiple of this many bytes
	binary  bool   // binary: the column holds bytes, not base64 text
}

// maxPadding keeps a slip of the finger from filling a disk.
const maxPadding = 1 << 16

// option describes one word of a tag: what it sets, and whether it takes a value.
type option struct {
	value bool
	set   func(o *options, value string) error
}

var knownOptions = map[string]option{
	"id":     {false, func(o *options, _ string) error { o.id = true; return nil }},
	"binary": {false, func(o *options, _ string) error { o.binary = true; return nil }},
	"name":   {true, func(o *options, v string) error { o.name = v; return nil }},
	"key":    {true, func(o *options, v string) error { o.key = v; return nil }},
	"as":     {true, func(o *options, v string) error { o.as = v; return nil }},
	"type":   {true, func(o *options, v string) error { o.valType = v; return nil }},
	"padding": {true, func(o *options, v string) (err error) {
		o.padding, err = strconv.Atoi(v)
		if err != nil || o.padding < 1 || o.padding > maxPadding {
			return fmt.Errorf("padding=%s, want a number from 1 to %d", v, maxPadding)
		}
		return nil
	}},
}

// parseTag reads a kms tag and reports all its mistakes at once, as
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
			mistakes = append(mistakes, fmt.Errorf("option %s stands there twice", name))
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
