// Package attach attaches encrypted files to the records of a
// [github.com/kmsencrypted/kmsencrypted/field.Model]: in constant memory, readable
// in any part, and rotated with their record without touching an object.
//
//	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers", Files: true})
//	bucket, err := attach.OpenDir("/var/lib/app/files") // or one of package files/gocloud
//	attachments, err := attach.New(ctx, db, field.Postgres, customers, attach.Config{
//		One: []string{"license"}, Many: []string{"scans"},
//		Buckets: map[string]attach.Bucket{"disk": bucket},
//	})
//	err = attachments.CreateTables(ctx) // once
//
//	pending, err := attachments.Upload(ctx, &c, "license", upload, attach.Options{Name: "license.pdf"}) // streams; nothing to see yet
//	att, err := pending.Commit(ctx, tx)  // with the rest of the transaction
//	f, err := attachments.Open(ctx, att) // io.ReadSeekCloser, io.ReaderAt; nothing decrypted that is not read
//	defer f.Close()
//	w.Header().Set("Content-Type", f.ContentType()) // not what the name says
//	http.ServeContent(w, r, "", f.ModTime(), f)     // or package serve, which knows what browsers do
//
// Each file has a random key of its own. It is stored in a row of the table
// kms_attachments, wrapped under the record's data key and bound to table, record,
// name and file (spec/files.md section 4). Opening a file costs one call to the key
// service, to unwrap the record's data key. A process that may only encrypt can
// attach files too: then the key service wraps the file keys, until the next rekey
// or [Manager.WrapKeys].
//
// # Nothing is lost, nothing is left behind
//
// An object is listed in the table kms_attachment_objects before its first byte is
// written. The transaction that attaches it removes it from the list. The
// transaction that deletes or replaces a file puts its object on the list again. So
// a process may die at any point. [Manager.Sweep], called now and then, deletes the
// listed objects whose time has come.
//
// # Rotation
//
// Add the manager to sqlstore.Options.Dependents: a rekey of the records then wraps
// the file keys under the new data keys in the same transaction. A rekey without it
// refuses to start. [Manager.Reencrypt] moves a file to a new key, which protects
// it from somebody who knows the old one.
package attach
