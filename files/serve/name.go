package serve

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is how many bytes of a name file systems take, less what browsers add
// to it while they download.
const maxName = 200

// cleanName makes a file name of what somebody once called a file: no path, no
// control characters, none that turn the direction of writing and so hide an
// ending, and not too long. Names that are nothing else become "file".
func cleanName(name string) string {
	name = strings.ToValidUTF8(name, "_")
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			return -1
		case strings.ContainsRune(`<>:"|?*`, r): // what Windows does not take
			return '_'
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, name)
	name = shorten(strings.Trim(name, " ."))
	if name == "" {
		return "file"
	}
	return name
}

// shorten keeps the ending of a long name.
func shorten(name string) string {
	if len(name) <= maxName {
		return name
	}
	ending := ""
	if i := strings.LastIndexByte(name, '.'); i >= 0 && len(name)-i <= 20 {
		ending = name[i:]
	}
	cut := maxName - len(ending)
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return strings.TrimRight(name[:cut], " .") + ending
}

// dispositionName is the name as parameters of Content-Disposition (RFC 6266): in
// ASCII for old clients, and behind it as it is.
func dispositionName(name string) string {
	ascii := strings.Map(func(r rune) rune {
		if r >= utf8.RuneSelf || r == '%' || r == '\\' || r == '"' {
			return '_'
		}
		return r
	}, name)
	out := `; filename="` + ascii + `"`
	if ascii != name {
		out += "; filename*=UTF-8''" + percent(name)
	}
	return out
}

// percent encodes all but the attr-char of RFC 5987.
func percent(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("!#$&+-.^_`|~", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}
