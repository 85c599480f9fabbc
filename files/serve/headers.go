package serve

import (
	"mime"
	"net/http"
	"slices"
	"strings"
)

// Inline reports whether browsers show a content type by default: images (not SVG),
// audio, video, PDF and plain text.
func Inline(contentType string) bool {
	group, _, _ := strings.Cut(contentType, "/")
	return group == "image" || group == "audio" || group == "video" ||
		contentType == "application/pdf" || contentType == "text/plain"
}

// octets is the type that a browser does not interpret.
const octets = "application/octet-stream"

// active reports whether a browser may run scripts in a document of this type.
// Every kind of XML may contain scripts.
func active(mediaType string) bool {
	group, name, _ := strings.Cut(mediaType, "/")
	return group == "multipart" || strings.HasSuffix(name, "xml") ||
		strings.Contains(name, "html") || strings.Contains(name, "script") || strings.Contains(name, "svg") ||
		slices.Contains([]string{"text/cache-manifest", "text/css", "text/xsl", "application/wasm", "application/x-shockwave-flash"}, mediaType)
}

// Policies for files that are shown. A sandbox would also block the browser's PDF
// viewer, which runs nothing in the origin of the site.
const (
	policy        = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
	sandboxPolicy = policy + "; sandbox"
)

func setHeaders(h http.Header, f File, o Options) {
	contentType, mediaType := safeType(f.ContentType())
	disposition := "attachment"
	if !o.Download && mediaType != octets && o.Inline(mediaType) {
		disposition = "inline"
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Disposition", disposition+dispositionName(cleanName(f.Name())))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", sandboxPolicy)
	if mediaType == "application/pdf" {
		h.Set("Content-Security-Policy", policy+"; object-src 'self'")
	}
	if tag := f.ETag(); strongTag(tag) {
		h.Set("ETag", tag)
	} else {
		h.Del("ETag")
	}
	for name, value := range map[string]string{
		"Cache-Control":                "private, no-store",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Referrer-Policy":              "no-referrer", // signed links are secret
	} {
		if h.Get(name) == "" {
			h.Set(name, value)
		}
	}
}

// safeType returns the header for a declared content type, and the media type
// alone.
func safeType(declared string) (header, mediaType string) {
	mediaType, params, err := mime.ParseMediaType(declared)
	if err != nil || !strings.Contains(mediaType, "/") || active(mediaType) {
		return octets, octets
	}
	if mediaType == "text/plain" && params["charset"] == "" {
		params["charset"] = "utf-8"
	}
	if header = mime.FormatMediaType(mediaType, params); header == "" {
		return octets, octets
	}
	return header, mediaType
}

// strongTag reports whether [http.ServeContent] accepts a tag: it must not be weak,
// because ranges cannot be compared by weak tags, and have no stray characters.
func strongTag(tag string) bool {
	if len(tag) < 3 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return false
	}
	return !strings.ContainsFunc(tag[1:len(tag)-1], func(r rune) bool { return r <= ' ' || r == '"' || r >= 0x7f })
}
