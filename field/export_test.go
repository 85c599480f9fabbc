package field

import "strconv"

// ParseTag is parseTag for the fuzz target outside the package.
func ParseTag(tag string) (options, error) { return parseTag(tag) }

// String is a tag that reads as o.
func (o options) String() string {
	var tag string
	add := func(has bool, word string) {
		if has {
			tag += "," + word
		}
	}
	add(o.id, "id")
	add(o.binary, "binary")
	add(o.name != "", "name="+o.name)
	add(o.key != "", "key="+o.key)
	add(o.as != "", "as="+o.as)
	add(o.valType != "", "type="+o.valType)
	add(o.migrating != "", "migrating="+o.migrating)
	add(o.padding > 0, "padding="+strconv.Itoa(o.padding))
	if tag == "" {
		return ""
	}
	return tag[1:]
}
