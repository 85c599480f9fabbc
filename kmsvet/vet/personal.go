package vet

import (
	"go/ast"
	"go/types"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// personalWords are what the name of a field ends with that holds personal data.
var personalWords = []string{
	"email", "mail", "phone", "mobile", "fax", "ssn", "iban", "bic", "birthday", "birthdate", "birth", "dob", "born", "address", "street", "passport",
	"taxid", "taxnumber", "creditcard", "cardnumber", "pan", "diagnosis", "salary", "religion", "surname", "lastname", "firstname", "nationalid", "driverslicense",
}

// spellings end a name without changing what it holds.
var spellings = []string{"number", "no", "num", "text", "address", "line", "1", "2"}

// notPersonal are addresses of machines, and of programs.
var notPersonal = []string{"ip", "mac", "remote", "listen", "server", "contract", "wallet", "memory", "bind", "host", "net"}

// personal finds plain fields beside encrypted ones that are named like personal data.
func personal(c *checker) {
	c.inspect.Preorder([]ast.Node{(*ast.TypeSpec)(nil)}, func(n ast.Node) {
		spec := n.(*ast.TypeSpec)
		s, ok := spec.Type.(*ast.StructType)
		if !ok {
			return
		}
		encrypted, replaced := c.encrypted(s)
		if len(encrypted) == 0 {
			return
		}
		for _, f := range s.Fields.List {
			if f.Tag != nil && tagOf(f).Get("db") == "-" || !isText(c.TypesInfo.TypeOf(f.Type)) {
				continue
			}
			for _, name := range f.Names {
				if name.IsExported() && !replaced[name.Name] && isPersonal(name.Name) {
					c.report(name, "%s looks like personal data and is stored plain beside the encrypted %s: make it a field.Of, or say in a kmsvet:ignore comment why it is public", name.Name, encrypted[0])
				}
			}
		}
	})
}

var replaces = regexp.MustCompile(`migrat(?:ing|ed)=(\w+)`)

// encrypted returns the names of the encrypted fields of a struct, and those of the plain ones that they
// replace.
func (c *checker) encrypted(s *ast.StructType) (names []string, replaced map[string]bool) {
	replaced = make(map[string]bool)
	for _, f := range s.Fields.List {
		if !isType(c.TypesInfo.TypeOf(f.Type), fieldPath, "Of") {
			continue
		}
		for _, name := range f.Names {
			names = append(names, name.Name)
		}
		if m := replaces.FindStringSubmatch(tagOf(f).Get("kms")); m != nil {
			replaced[m[1]] = true
		}
	}
	return names, replaced
}

func tagOf(f *ast.Field) reflect.StructTag {
	if f.Tag == nil {
		return ""
	}
	return reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
}

// isText reports whether a type can hold a text, bytes or a time. A number or a bool named so says
// something about the data: how many, whether it was checked, which row of another table.
func isText(t types.Type) bool {
	if isType(t, "time", "Time") || isType(t, "database/sql", "NullString") || isType(t, "database/sql", "NullTime") {
		return true
	}
	if n := namedOf(t); n != nil && isType(n, "database/sql", "Null") {
		return isText(n.TypeArgs().At(0))
	}
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		t = p.Elem()
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return u.Kind() == types.String
	case *types.Slice:
		return types.Identical(u.Elem(), types.Typ[types.Byte])
	}
	return false
}

// isPersonal looks at the last words of a name, such as WorkEmail or PhoneNumber. EmailStatus
// ends with another.
func isPersonal(name string) bool {
	words := wordsOf(name)
	for from := range words {
		if slices.Contains(notPersonal, words[from]) {
			return false
		}
		for to := len(words); to > from; to-- {
			rest := slices.ContainsFunc(words[to:], func(w string) bool { return !slices.Contains(spellings, w) })
			if !rest && slices.Contains(personalWords, strings.Join(words[from:to], "")) {
				return true
			}
		}
	}
	return false
}

// wordsOf splits HomePhone2 into home, phone, 2, and SSNText into ssn, text.
func wordsOf(name string) (words []string) {
	runes := []rune(name)
	start := 0
	for i := 1; i <= len(runes); i++ {
		if i < len(runes) {
			now, before := runes[i], runes[i-1]
			next := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			switch {
			case unicode.IsUpper(now) && (!unicode.IsUpper(before) || next):
			case unicode.IsDigit(now) && !unicode.IsDigit(before):
			default:
				continue
			}
		}
		words = append(words, strings.ToLower(string(runes[start:i])))
		start = i
	}
	return words
}
