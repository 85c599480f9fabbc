// Package direct lets browsers upload files in parts: each part can be sent again, and a
// file of any size goes without a request of that size.
//
//	uploads, err := direct.New(attachments, authorize, commit, direct.Options{Secrets: [][]byte{secret}})
//	mux.Handle("/customers/{id}/license", uploads)
//	mux.Handle("GET /upload.js", direct.Script())
//
// and in the page
//
//	import {upload} from "/upload.js"
//	await upload("/customers/7/license", input.files[0])
//
// If the bucket is an [attach.PartSigner], such as a service of kind S3 of package
// files/storage, the browser encrypts the file with WebCrypto and sends it straight to the
// store. It gets the key of this one object, and keeps it in memory only. Otherwise the parts
// go through this program, which encrypts them.
//
// # What is checked
//
// Authorize is called first for each request, also for the last one. What was decided at the
// beginning (the store, the user, the tenant, the record, the size) is in a token that is
// signed and not in parameters. A token works for one upload: for its pending object, until a
// file was made of it or it was given up.
//
// No two contents of one part leave this program or a browser: before a part goes out, the
// database has the SHA-256 of its ciphertext, and URLs sign length and SHA-256. The object is
// opened before it is attached.
//
// # Requests
//
// The page must be served over HTTPS or from localhost, or there is no WebCrypto. Answers are JSON.
//
//	POST, a JSON object with name, type and size      begins an upload; the answer has the token
//	POST ?part=N, a JSON object with the sha256       a URL and headers for a part that the browser has sealed
//	PUT ?part=N                                       a part that this program seals
//	GET                                               the numbers of the parts that are missing
//	POST ?finish                                      attaches the file
//	DELETE                                            gives the upload up
//
// All but the first have the token in the header Upload-Token. A page of another origin cannot
// send it, nor JSON, without permission (CORS), so forged requests do nothing.
package direct
