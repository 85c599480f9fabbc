// Package gocloud encrypts buckets of gocloud.dev/blob: S3, Google Cloud Storage,
// Azure, disk and memory. What comes out is a *blob.Bucket again, so programs
// change in one line:
//
//	bucket := gocloud.Encrypt(inner, box)
//	err = bucket.WriteAll(ctx, "contracts/7.pdf", pdf, nil)
//	pdf, err = bucket.ReadAll(ctx, "contracts/7.pdf")
//
// gocloud.dev v0.47.0 changed the method Delete of drivers. This package is built
// for v0.44.0 to v0.46.0; with v0.47.0 or newer a program needs -tags gocloud47,
// or it does not compile.
//
// # What the store sees
//
// Each object is one of package files under a random key of its own. That key,
// with content type, metadata and the other attributes, lies beside it, encrypted
// by the Box, in a small object called sidecar:
//
//	contracts/7.pdf                                        the object, application/octet-stream
//	contracts/7.pdf.9f0c…(32 digits).kek                   its sidecar, text "v1:…" (spec/buckets.md)
//
// Names of objects, their sizes and times stay readable. Sidecars do not show in
// lists. A key that ends like a sidecar's name is refused, [ErrReserved].
//
// The encryption context is {"object": key}, so the key service's audit log shows
// who read what, and an object that was moved to another key does not open. Move
// with Copy and Delete of the encrypted bucket, or choose another context in
// [Options].
//
// # What each method costs and returns
//
// Opening an object, reading attributes (and so Exists) and each write make one
// call to the key service, a copy two. List and Delete make none. A reader that
// seeks keeps its key. Reading fetches the chunks that are needed and no others;
// while it goes on in order, it reads ahead, from 64 KiB up to 2 MiB. The sequence
// of requests is: the beginning of the object, then its sidecar and its last
// chunk side by side, then what is read. A copy reads and writes the object
// through the program and has a key of its own; copying an object onto itself
// gives it a new key.
//
// Attributes and lists give the size of the file, which follows from the object's;
// it is authentic once the object is opened. The ETag is the file id: it changes
// with each write, and stays in a rewrap. The MD5 is that of the file if the
// writer was given one, as WriteAll does, and nil in lists. As and the options of
// a provider reach the requests for the object; BeforeRead is called for each
// request of a reader, BeforeCopy without a request.
//
// SignedURL is refused with [ErrSignedURL], since whoever has the link would get
// ciphertext, or upload plaintext: package files/serve has links of its own.
//
// # Writing over, crashes and races
//
// The sidecar is written before the object becomes visible, and named after the
// file id in it, so there is no moment at which an object lies there without its
// key, and writers of one key need no lock: one of them wins as without
// encryption. What a crash or a lost race leaves behind is a sidecar without an
// object, which [Bucket.Prune] deletes. A reader reads one version of an object:
// if it is replaced meanwhile, it fails with [ErrReplaced].
//
// # Rotation
//
// [Bucket.Rewrap] brings sidecars to the current version of the Box. No object is
// read or written.
//
// # Attached files
//
// Files that belong to a record are encrypted by package attach, with keys in the
// database. [Attachments] keeps their objects in any bucket of gocloud.dev.
package gocloud
