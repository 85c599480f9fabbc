package branch

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
)

// Name names a branch. Names are compared byte by byte: case and the Unicode form count.
type Name struct {
	Parent string // of a branch under another one, such as the tenant of a subject; empty at the top
	Branch string
}

// maxName is the size in bytes that a column of names has in MySQL.
const maxName = 255

// String returns the name with escapes as in a URL, so that no two names have one text:
// "acme", or "acme/42" under a parent. [ParseName] is its inverse.
func (n Name) String() string {
	if n.Parent == "" {
		return url.PathEscape(n.Branch)
	}
	return url.PathEscape(n.Parent) + "/" + url.PathEscape(n.Branch)
}

// ParseName parses what [Name.String] returns. The error is [kmsencrypted.ErrConfig].
func ParseName(text string) (n Name, err error) {
	parent, name, nested := strings.Cut(text, "/")
	if !nested {
		parent, name = "", parent
	}
	if n.Parent, err = url.PathUnescape(parent); err == nil {
		n.Branch, err = url.PathUnescape(name)
	}
	if err == nil && nested && n.Parent == "" {
		err = fmt.Errorf("the parent is empty")
	}
	if err == nil {
		err = n.check()
	}
	if err != nil {
		return Name{}, fmt.Errorf("branch: %w: name %q: %w", kmsencrypted.ErrConfig, text, err)
	}
	return n, nil
}

// check returns an error for a name that is empty, too long or not text that every
// database keeps.
func (n Name) check() error {
	if n.Parent != "" {
		if err := checkPart(n.Parent); err != nil {
			return fmt.Errorf("parent: %w", err)
		}
	}
	return checkPart(n.Branch)
}

func checkPart(text string) error {
	switch {
	case text == "":
		return fmt.Errorf("%w: the name of the branch is empty", kmsencrypted.ErrContext)
	case len(text) > maxName:
		return fmt.Errorf("%w: the name of the branch has %d bytes, more than %d", kmsencrypted.ErrContext, len(text), maxName)
	case !utf8.ValidString(text), strings.IndexByte(text, 0) >= 0:
		return fmt.Errorf("%w: the name of the branch is not UTF-8 without NUL", kmsencrypted.ErrContext)
	}
	return nil
}

// NameFunc returns the branch of a record from its encryption context. It is part of the
// recipe of a version: it must return the same branch for the same context as long as the
// version is listed. It is called before each wrap and unwrap, by many goroutines.
type NameFunc func(kmsencrypted.BoundContext) (Name, error)

// Single returns one branch for all records.
func Single(branch string) NameFunc {
	name := Name{Branch: branch}
	return func(kmsencrypted.BoundContext) (Name, error) { return name, nil }
}

// ByPair returns the branch that a pair of the context names. A context without the pair,
// or with an empty value, is [kmsencrypted.ErrContext].
func ByPair(pair string) NameFunc {
	return func(ec kmsencrypted.BoundContext) (Name, error) {
		value, ok := ec.Value(pair)
		if !ok {
			return Name{}, noPair(pair)
		}
		return Name{Branch: value}, nil
	}
}

// ByPairs returns a branch under a parent: each is named by a pair of the context, such as
// the tenant and the subject. A context without one of the pairs, or with an empty value,
// is [kmsencrypted.ErrContext].
func ByPairs(parent, pair string) NameFunc {
	return func(ec kmsencrypted.BoundContext) (n Name, err error) {
		var ok bool
		if n.Parent, ok = ec.Value(parent); !ok || n.Parent == "" {
			return Name{}, noPair(parent)
		}
		if n.Branch, ok = ec.Value(pair); !ok {
			return Name{}, noPair(pair)
		}
		return n, nil
	}
}

func noPair(pair string) error {
	return fmt.Errorf("%w: it has no pair %q, which names the branch", kmsencrypted.ErrContext, pair)
}
