// Package pkcs11 wraps data keys under an AES key of a PKCS #11 token: a hardware
// security module, a smart card, or SoftHSM.
//
//	provider, err := pkcs11.Open("pkcs11:token=acme;object=customers?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/acme/pin", pkcs11.Options{})
//	defer provider.Close()
//
// The key never leaves the token, and the token does all work with it. With
// [AESGCM] the encryption context is additional authenticated data, so that the
// token checks it. [AESKeyWrap] is for tokens without that; it binds no context.
//
// The package loads the C library of the token into the process, and so it needs
// cgo: without it the package is empty. [providers.Open] does not know it, so that
// no other program needs cgo. It was tested with SoftHSM 2.6.1, and with no hardware.
//
// [providers.Open]: https://pkg.go.dev/github.com/kmsencrypted/kmsencrypted/providers#Open
package pkcs11
