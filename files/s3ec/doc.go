// Package s3ec reads and writes objects of S3 client-side encryption as AWS's clients do:
// files that a Rails application with Aws::S3::EncryptionV2::Client keeps in Active
// Storage, or a Java application with AmazonS3EncryptionClient. For files that only Go
// reads, package files is the first choice: it needs no pass over the whole object before
// the first byte.
//
//	store := s3client.New(s3.NewFromConfig(cfg), "my-bucket", s3client.Options{})
//	client, err := s3ec.New(store, s3ec.Options{Keys: []s3ec.Key{s3ec.KMS(provider)}})
//	...
//	_, err = client.Put(ctx, "report.pdf", file, size, s3ec.PutOptions{})
//	...
//	r, err := client.Open(ctx, "report.pdf", s3ec.OpenOptions{})
//	...
//	defer r.Close()
//	http.ServeContent(w, req, "report.pdf", modified, io.NewSectionReader(r, 0, r.Size()))
//
// # Formats
//
// A [Client] writes [V2], which every client of AWS since 2020 reads, or [V3], which adds
// a key commitment. It reads both, and [V1] with [Options.LegacyRead]. V3 objects of Go and
// Java are read; no object of a released Ruby client has been tried. The formats are
// described in spec/s3ec.md.
//
// The data key of an object is wrapped by a key service ([KMS]), a static key ([AES]) or
// an RSA key ([RSA]). Under a key service the encryption context of the object is always
// compared with the one that the caller expects, also if that is none.
//
// # Reading
//
// V2 and V3 are one AES-GCM message with the tag at its end. So [Client.Open] reads the
// whole object once, checks it, and keeps 64 bytes for each MiB. After that, any part
// is read again from the same version of the object and compared with what was checked.
// No byte is returned that was not authenticated. Memory does not grow with the object.
package s3ec
