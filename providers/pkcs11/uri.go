//go:build cgo

package pkcs11

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

// uri is what RFC 7512 writes as
// pkcs11:token=T;serial=S;object=LABEL;id=%01?module-path=FILE&pin-source=file:FILE.
type uri struct {
	name      string // without the part after "?"
	token     string // the label of the token
	serial    string
	object    string // the label of the key
	id        string // bytes; the key to wrap under
	module    string
	pinSource string
}

func parseURI(text string) (u uri, err error) {
	refuse := func(format string, args ...any) (uri, error) {
		return uri{}, fmt.Errorf("pkcs11: %w: "+format, append([]any{kmsencrypted.ErrConfig}, args...)...)
	}
	rest, ok := strings.CutPrefix(text, "pkcs11:")
	if !ok {
		return refuse("the key is not named by a URI that begins with pkcs11:")
	}
	path, query, _ := strings.Cut(rest, "?")
	u.name = "pkcs11:" + path
	known := map[string]*string{"token": &u.token, "serial": &u.serial, "object": &u.object, "id": &u.id}
	later := map[string]*string{"module-path": &u.module, "pin-source": &u.pinSource}
	for _, part := range []struct {
		text, separator string
		known           map[string]*string
	}{{path, ";", known}, {query, "&", later}} {
		for attribute := range strings.SplitSeq(part.text, part.separator) {
			name, value, _ := strings.Cut(attribute, "=")
			to, ok := part.known[name]
			switch {
			case attribute == "":
				continue
			case name == "type" && value == "secret-key":
				continue
			case name == "pin-value":
				return refuse("pin-value would show the PIN wherever the key is named: use pin-source or Options.PIN")
			case !ok:
				return refuse("the URI has an attribute %q, which is none of %s", name, strings.Join(slices.Sorted(maps.Keys(part.known)), ", "))
			case *to != "":
				return refuse("the URI has the attribute %q twice", name)
			}
			if *to, err = url.PathUnescape(value); err != nil || *to == "" {
				return refuse("the value of the attribute %q is empty or not percent-encoded", name)
			}
		}
	}
	switch {
	case u.module == "":
		return refuse("the URI has no module-path, the file of the token's library")
	case u.token == "" && u.serial == "":
		return refuse("the URI names no token: add token= or serial=")
	case u.object == "" && u.id == "":
		return refuse("the URI names no key: add object=, its label, or id=")
	case len(u.id) > maxID:
		return refuse("the id has more than %d bytes", maxID)
	}
	return u, nil
}

// shown is the key in texts.
func (u uri) shown() string { return cmp.Or(u.name, "pkcs11:") }
