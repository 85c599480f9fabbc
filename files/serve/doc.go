// Package serve gives encrypted files to browsers and other HTTP clients: ranges,
// conditional requests, safe headers, and links that expire.
//
//	http.Handle("GET /files/{id}", serve.Handler(
//		func(r *http.Request) (string, error) { return r.PathValue("id"), mayRead(r) }, // first of all
//		bucket.Open, // then
//		serve.Options{},
//	))
//
// A [File] is what [gocloud.Bucket.Open] returns, or any other opened file with a
// name, a type and a size; only what a client asks for is decrypted.
//
// # What a browser is told
//
// Only images, audio, video, PDF and plain text are shown in the browser; a
// content type that can run scripts, such as HTML or SVG, is given out as bytes to
// save. X-Content-Type-Options keeps a browser from guessing another type, so a
// file that lies about its type does no harm, and a Content-Security-Policy keeps
// what is shown from running or loading anything. File names are cleaned. Nothing
// is cached outside the process, unless Cache-Control was set before.
//
// # Damage
//
// If a file turns out to be damaged, or the store fails, while it is transferred,
// the connection is broken off ([http.ErrAbortHandler]): a client sees a transfer
// that failed, never a short one that looks complete.
//
// # Links
//
// [Links] signs links that expire, for those who cannot log in: an image in a
// mail, a download by another program.
package serve
