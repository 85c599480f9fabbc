package field

import (
	"strconv"
	"strings"
)

// ParseTag is parseTag for the fuzz target outside the package.
func ParseTag(tag string) (options, error) { return parseTag(tag) }

// String is a tag that reads as o.
func (o options) String() string {
	var words []string
	add := func(has bool, word string) {
		if has {
			words = append(words, word)
		}
	}
	text := func(name, value string) { add(value != "", name+"="+value) }
	count := func(name string, n int) { add(n > 0, name+"="+strconv.Itoa(n)) }
	add(o.id, "id")
	add(o.context, "context")
	add(o.binary, "binary")
	text("name", o.name)
	text("key", o.key)
	text("as", o.as)
	text("type", o.valType)
	count("padding", o.padding)
	text("migrating", o.migrating)
	text("migrated", o.migrated)
	add(o.ruby != "", string(o.ruby))
	text("algorithm", o.algorithm)
	text("ad", o.ad)
	add(o.master, "master")
	text("key_table", o.keyTable)
	text("key_attribute", o.keyAttr)
	text("mode", o.mode)
	add(o.marshal, "marshal")
	add(o.zeroIV, "zero_iv")
	text("encode", o.encode)
	text("encode_iv", o.encodeIV)
	text("encode_salt", o.encodeSalt)
	add(o.allowEmpty, "allow_empty")
	text("ignore_case", o.ignoreCase)
	add(o.deterministic, "deterministic")
	add(o.downcase, "downcase")
	text("of", o.of)
	text("expression", o.expression)
	add(o.slow, "slow")
	count("size", o.size)
	count("bits", o.bits)
	return strings.Join(words, ",")
}

// KnownOptions lists a tag for each option, with a value that every option takes.
func KnownOptions() (tags []string) {
	for name, known := range knownOptions {
		if known.value {
			name += "=7"
		}
		tags = append(tags, name)
	}
	return tags
}
