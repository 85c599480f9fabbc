// Package files encrypts files of any size in constant memory. Each file has a
// random [Key] of its own, which is stored wrapped under the data key of the
// record that the file belongs to: rotating the record's key changes one column
// and no file.
//
//	key := files.NewKey()
//	defer key.Wipe()
//	w, err := files.NewWriter(ctx, object, key, files.Options{})
//	_, err = io.Copy(w, source)
//	err = w.Close() // before this there is no file
//
//	place := files.Place{Format: files.Native, Table: "users", ID: []string{"7"}, Attachment: "license", File: w.ID()}
//	column, err := files.WrapKey(dataKey, key, place) // "fk2:…", for the row
//
// Reading goes the other way:
//
//	key, err := files.UnwrapKey(dataKey, column, place)
//	r, err := files.NewReader(ctx, object, key, files.Options{})     // from the beginning to the end
//	r, err := files.NewReaderAt(ctx, object, size, key)              // any part of it
//	http.ServeContent(w, request, "license.pdf", time.Time{}, r.Section())
//
// The format is defined in spec/files.md: a header of 32 bytes and a body in the
// published format c2sp.org/chunked-encryption, with AES-256-GCM and SHA-512. It
// commits to the key, and its length cannot be forged. Reading a part of a file
// reads only that part of the object. Salts and nonces cannot be chosen.
//
// A key seals one object; a file that changes takes a new key. Somebody who can
// write to the store can remove an object or put back an older one, but the key in
// the row does not open the older one.
//
// Nonces are derived from the key. GODEBUG=fips140=only allows only random nonces,
// so writers and readers fail there with [kmsencrypted.ErrConfig].
//
// A file that belongs to no record has no data key to wrap its key: encrypt
// [Key.Raw] with a [kmsencrypted.Box] and read it back with [KeyFrom].
//
// Package files/lockbox reads and writes the objects of the Ruby gem Lockbox.
package files
