//go:build cgo

package zerotest_test

import "github.com/kmsencrypted/kmsencrypted/providers/pkcs11"

func init() {
	made = append(made, struct {
		zero, null any
		skip       []string
	}{new(pkcs11.Provider), (*pkcs11.Provider)(nil), []string{"Close"}}) // closes nothing
}
