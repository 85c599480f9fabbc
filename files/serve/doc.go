// Package serve sends encrypted files to browsers and other HTTP clients. It
// handles ranges, conditional requests, safe headers, and links that expire.
//
//	http.Handle("GET /files/{id}", serve.Handler(
//		func(r *http.Request) (string, error) { return r.PathValue("id"), mayRead(r) }, // first of all
//		bucket.Open, // then
//		serve.Options{},
//	))
//
// A [File] is what [gocloud.Bucket.Open] returns, or any other open file with a
// name, a type and a size. Only what a client asks for is decrypted.
//
// # What a browser is told
//
// Only images, audio, video, PDF and plain text are shown in the browser. A content
// type that can run scripts, such as HTML or SVG, is sent as bytes to save.
// X-Content-Type-Options keeps a browser from guessing another type, so a file with
// a false type does no harm. A Content-Security-Policy keeps the file from running
// or loading anything. File names are cleaned. Nothing is cached outside the
// process, unless Cache-Control was set before.
//
// # Damage
//
// If a file turns out to be damaged or the store fails during a transfer, the
// connection is aborted ([http.ErrAbortHandler]). The client sees a failed
// transfer, never a short one that looks complete.
//
// # Links
//
// [Links] signs links that expire, for clients that cannot log in: an image in a
// mail, a download by another program.
package serve
