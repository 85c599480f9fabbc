//go:build cgo

package pkcs11_test

import (
	"context"
	"log"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/pkcs11"
)

func Example() {
	provider, err := pkcs11.Open("pkcs11:token=acme;object=customers?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/acme/pin", pkcs11.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer provider.Close()
	if err := provider.Probe(context.Background()); err != nil {
		log.Fatal(err)
	}
	box, err := kmsencrypted.NewBox(provider)
	if err != nil {
		log.Fatal(err)
	}
	_ = box
}
