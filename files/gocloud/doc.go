// Package gocloud encrypts buckets of gocloud.dev/blob: S3, Google Cloud Storage,
// Azure, disk and memory. The result is again a *blob.Bucket, so a program changes
// one line:
//
//	bucket := gocloud.Encrypt(inner, "contracts", box)
//	err = bucket.WriteAll(ctx, "contracts/7.pdf", pdf, nil)
//	pdf, err = bucket.ReadAll(ctx, "contracts/7.pdf")
//
// gocloud.dev v0.47.0 changed the method Delete of drivers. This package is built
// for v0.44.0 to v0.46.0; with v0.47.0 or newer a program needs -tags gocloud47,
// or it does not compile.
//
// # What the store sees
//
// Each object is in the format of package files under a random key of its own.
// That key, with content type, metadata and the other attributes, is stored next
// to it, encrypted by the Box, in a small object called sidecar:
//
//	contracts/7.pdf                                        the object, application/octet-stream
//	contracts/7.pdf.9f0c…(32 digits).kek                   its sidecar, text "kek2:v1:…" (spec/buckets.md)
//
// Names, sizes and times of objects stay readable. Lists do not show sidecars. A
// key that ends like the name of a sidecar is refused with [ErrReserved], a key of
// more than 987 bytes with [kmsencrypted.ErrTooLarge], before anything is written.
//
// The encryption context is {"bucket": name, "object": key}, so the key service's audit
// log shows who read what, and an object that was moved to another key or bucket
// does not open. Move
// with Copy and Delete of the encrypted bucket, or choose another context in
// [Options].
//
// # What each method costs and returns
//
// Opening an object, reading attributes (and so Exists) and each write make one
// call to the key service, a copy makes two. List and Delete make none. A reader
// that seeks keeps its key. Reading fetches only the chunks that are needed. While
// reads are sequential, it reads ahead, from 64 KiB up to 2 MiB. The sequence of
// requests is: the beginning of the object, then its sidecar and its last chunk
// concurrently, then the chunks to read. A copy reads and writes the object through the
// program and has a key of its own. Copying an object onto itself gives it a new
// key.
//
// Attributes and lists return the size of the file, computed from the size of the
// object; it is authenticated when the object is opened. The ETag is the file id:
// it changes with each write, and a rewrap keeps it. The MD5 is that of the file
// if the writer was given one, as WriteAll does, and nil in lists. As and the
// options of a provider apply to the requests for the object. BeforeRead is called
// for each request of a reader, BeforeCopy without a request.
//
// SignedURL fails with [ErrSignedURL], because such a link would return ciphertext
// or accept plaintext. Package files/serve has links of its own.
//
// # Writing over, crashes and races
//
// The sidecar is written before the object becomes visible, and its name contains
// the file id of the object. So an object never exists without its key, and
// writers of the same key need no lock: one of them wins, as without encryption. A
// crash or a lost race leaves a sidecar without an object, which [Bucket.Prune]
// deletes. A reader reads one version of an object: if the object is replaced
// meanwhile, it fails with [ErrReplaced].
//
// # Rotation
//
// [Bucket.Rewrap] moves sidecars to the current version of the Box. It reads and
// writes no object.
//
// # Attached files
//
// Package attach encrypts files that belong to a record, with keys in the
// database. [Attachments] stores their objects in any bucket of gocloud.dev.
package gocloud
