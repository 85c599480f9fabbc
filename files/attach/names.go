package attach

import (
	"crypto/rand"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// newObjectName makes the name of an object: 28 letters and digits, as Active
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

// maxFileName bounds a file name in bytes, as file systems do.
const maxFileName = 255

// CleanName makes a name for a file of what a client says: the last part of a path,
// whatever its separators, without control and formatting characters (which could
// turn the text around), spaces and dots at its ends; at most 255 bytes of UTF-8,
// "file" if nothing is left. Quotes stay: whoever puts the name into a header or a
// page escapes it.
func CleanName(name string) string {
	name = strings.ToValidUTF8(name, "�")
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
			return -1
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, name)
	name = strings.Trim(name, " .")
	if len(name) > maxFileName {
		// The extension says what the file is, so it stays.
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

// sniffLen is how much of a file tells its type.
const sniffLen = 512

// contentType decides the type of a file by its first bytes. What the client
// declares counts only where the bytes cannot tell, and never makes something of
// them that a browser runs.
func contentType(head []byte, declared string) string {
	sniffed := http.DetectContentType(head)
	kind, _, err := mime.ParseMediaType(declared)
	base, _, _ := mime.ParseMediaType(sniffed)
	if err != nil || slices.Contains(active, kind) || strings.HasSuffix(kind, "+xml") || !refines(base, kind) {
		return sniffed
	}
	return declared
}

// active are types that run in a browser; what is really HTML or XML is sniffed.
var active = []string{"text/html", "text/xml", "application/xml", "text/javascript", "application/javascript", "application/x-javascript", "text/ecmascript", "application/ecmascript"}

// refines reports whether bytes of the sniffed type may be of the declared one: a
// type that sniffing would have seen is a lie where it did not.
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

// recognised are the types that [http.DetectContentType] knows by a signature.
var recognised = []string{
	"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/x-icon", "image/vnd.microsoft.icon",
	"application/pdf", "application/postscript", "application/zip", "application/x-gzip", "application/gzip", "application/x-rar-compressed",
	"application/vnd.ms-fontobject", "font/ttf", "font/otf", "font/woff", "font/woff2", "font/collection", "application/wasm",
	"audio/basic", "audio/aiff", "audio/midi", "audio/wave", "audio/wav", "application/ogg", "video/avi", "video/webm", "video/mp4",
}
