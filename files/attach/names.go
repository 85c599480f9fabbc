package attach

import (
	"crypto/rand"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// newObjectName returns the name of a new object: 28 letters and digits, as Active
// Storage does, about 145 bits.
func newObjectName() string {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	name := make([]byte, 0, 28)
	for len(name) < cap(name) {
		var random [32]byte
		rand.Read(random[:])
		for _, b := range random {
			if b < 252 && len(name) < cap(name) { // 7 times 36
				name = append(name, alphabet[b%36])
			}
		}
	}
	return string(name)
}

// maxFileName is the limit of a file name in bytes, as in file systems.
const maxFileName = 255

// CleanName returns a file name made from what a client sent. It keeps the last part
// of a path with any separator, and removes control and formatting characters, which
// could reverse the text, and spaces and dots at both ends. A colon becomes "-", as in
// Rails. A name that Windows keeps for a device, such as "nul.txt", gets "_" in front. The result has at most 255 bytes
// of UTF-8, and is "file" if nothing is left. Quotes stay: the caller must escape the
// name in a header or a page.
func CleanName(name string) string {
	name = strings.ToValidUTF8(name, "�")
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
			return -1
		case unicode.IsSpace(r):
			return ' '
		case r == ':': // what follows names a stream of the file in NTFS
			return '-'
		}
		return r
	}, name)
	name = strings.Trim(name, " .")
	if isDevice(name) {
		name = "_" + name
	}
	if len(name) > maxFileName {
		// Keep the extension, because it says what the file is.
		extension := ""
		if dot := strings.LastIndexByte(name, '.'); dot >= 0 && len(name)-dot <= 20 {
			extension = name[dot:]
		}
		end := maxFileName - len(extension)
		for end > 0 && !utf8.RuneStart(name[end]) {
			end--
		}
		name = strings.TrimRight(name[:end], " .") + extension
	}
	if name == "" {
		return "file"
	}
	return name
}

// isDevice reports whether Windows takes a file name for a device, whatever its
// extension.
func isDevice(name string) bool {
	base, _, _ := strings.Cut(name, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	if slices.Contains([]string{"CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$"}, base) {
		return true
	}
	port, number := strings.CutPrefix(base, "COM")
	if !number {
		port, number = strings.CutPrefix(base, "LPT")
	}
	return number && utf8.RuneCountInString(port) == 1 && strings.Contains("0123456789¹²³", port)
}

// sniffLen is how many bytes of a file determine its type.
const sniffLen = 512

// maxContentType is the limit of a declared type in bytes. Both parts of a registered one
// have at most 127 (RFC 6838 section 4.2).
const maxContentType = 255

// contentType determines the type of a file from its first bytes. The declared type
// counts only if the bytes leave it open, and never turns them into something that a
// browser runs.
func contentType(head []byte, declared string) string {
	sniffed := http.DetectContentType(head)
	if len(declared) > maxContentType {
		return sniffed
	}
	kind, params, err := mime.ParseMediaType(declared)
	base, _, _ := mime.ParseMediaType(sniffed)
	if err != nil || !isType(kind) || active.MatchString(kind) || strings.ContainsFunc(declared, isOutside) || !refines(base, kind) {
		return sniffed
	}
	if charset, named := params["charset"]; named && !charsets.MatchString(charset) {
		return "application/octet-stream" // a browser would guess one
	}
	return declared
}

// isType reports whether a media type has the form of one that is registered.
func isType(kind string) bool {
	group, name, _ := strings.Cut(kind, "/")
	return name != "" && !strings.Contains(name, "*") && slices.Contains(groups, group)
}

// groups are the registered top-level types.
var groups = []string{"application", "audio", "chemical", "example", "font", "haptics", "image", "message", "model", "multipart", "text", "video"}

// charsets are those that browsers know. UTF-7 is not one of them: markup in it
// looks harmless.
var charsets = regexp.MustCompile(`(?i)^(utf-?8|us-ascii|utf-16(le|be)?|iso-8859-([1-9]|1[0-6])|windows-(874|125[0-8])|koi8-[ru]|macintosh|ibm866|shift_jis|euc-(jp|kr)|iso-2022-jp|gb2312|gbk|gb18030|big5)$`)

// active matches the types that run in a browser or change a page: those that count as
// JavaScript (https://mimesniff.spec.whatwg.org/#javascript-mime-type) among them. HTML and
// XML themselves are recognised by sniffing.
var active = regexp.MustCompile(`(java|ecma|live|j|vb)script|^text/(html|xml|css)$|^application/xml$|\+xml$|^multipart/|shockwave-flash`)

// isOutside reports whether a character has no place in a media type, and perhaps none in
// a database.
func isOutside(r rune) bool { return r < ' ' || r > '~' }

// refines reports whether bytes of the sniffed type may be of the declared one. A
// declared type that sniffing would have recognised cannot be true.
func refines(sniffed, declared string) bool {
	group, _, _ := strings.Cut(declared, "/")
	switch sniffed {
	case "text/plain":
		return group == "text" || declared == "application/json" || strings.HasSuffix(declared, "+json") || declared == "application/yaml"
	case "application/zip":
		return strings.HasPrefix(declared, "application/vnd.") || strings.HasSuffix(declared, "+zip")
	case "application/octet-stream":
		return group != "text" && !slices.Contains(recognised, declared)
	}
	return false
}

// recognised are the types that [http.DetectContentType] recognises by a signature.
var recognised = []string{
	"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/x-icon", "image/vnd.microsoft.icon",
	"application/pdf", "application/postscript", "application/zip", "application/x-gzip", "application/gzip", "application/x-rar-compressed",
	"application/vnd.ms-fontobject", "font/ttf", "font/otf", "font/woff", "font/woff2", "font/collection", "application/wasm",
	"audio/basic", "audio/aiff", "audio/midi", "audio/wave", "audio/wav", "application/ogg", "video/avi", "video/webm", "video/mp4",
}
