package serve

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the length in bytes that file systems accept, less what browsers
// append while they download.
const maxName = 200

// cleanName turns the original name of a file into a safe file name: without a
// path, without control characters, without characters that reverse the writing
// direction and so hide an extension, and not too long. It returns "file" if
// nothing is left.
func cleanName(name string) string {
	name = strings.ToValidUTF8(name, "_")
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			return -1
		case strings.ContainsRune(`<>:"|?*`, r): // not allowed by Windows
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

// shorten keeps the extension of a long name.
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

// dispositionName returns the name as parameters of Content-Disposition (RFC
// 6266): in ASCII for old clients, followed by the full name.
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

// percent escapes everything but the attr-char of RFC 5987.
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
