package lockbox_test

import (
	"fmt"
	"log"
	"time"

	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox/rubyyaml"
)

// Read what a Rails model with has_encrypted :email has stored.
func ExampleMasterKey_AttributeKey() {
	master, err := lockbox.ParseMasterKey("f8e99640c86ac2ad3d646a0326ae0ab705ef5e34ca0bbf8306a980a639b4ef3a")
	if err != nil {
		log.Fatal(err)
	}
	key, err := master.AttributeKey("samples", "string_v_ciphertext")
	if err != nil {
		log.Fatal(err)
	}
	box, err := lockbox.New(key, lockbox.Options{})
	if err != nil {
		log.Fatal(err)
	}
	column := lockbox.Column{Box: box}
	plaintext, err := column.Open(nil, []byte("IB/nINzr6UbXuBnPxqSMu6zKosKEMTEAKEgZuvSp"), nil)
	fmt.Printf("%s %v\n", plaintext, err)
	// Output: hi <nil>
}

func ExampleBox() {
	key := make([]byte, lockbox.KeySize) // from a secret store, really
	box, err := lockbox.New(key, lockbox.Options{Padding: 16})
	if err != nil {
		log.Fatal(err)
	}
	sealed, err := box.SealText(nil, []byte("secret"), []byte("customer 7"))
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := box.OpenText(nil, sealed, []byte("customer 7"))
	fmt.Printf("%d characters, %s %v\n", len(sealed), plaintext, err)
	_, err = box.OpenText(nil, sealed, []byte("customer 8"))
	fmt.Println(err)
	// Output:
	// 60 characters, secret <nil>
	// lockbox: does not decrypt: wrong key, wrong context or changed bytes
}

func ExampleType() {
	date, err := lockbox.ParseType("date", nil)
	if err != nil {
		log.Fatal(err)
	}
	plaintext, _, err := date.Append(nil, time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC))
	fmt.Printf("%s %v\n", plaintext, err)

	hash, err := lockbox.ParseType("hash", rubyyaml.Codec{})
	if err != nil {
		log.Fatal(err)
	}
	plaintext, _, err = hash.Append(nil, lockbox.Hash{{Key: lockbox.Symbol("color"), Value: "no"}})
	fmt.Printf("%s%v\n", plaintext, err)
	// Output:
	// 1815-12-10 <nil>
	// ---
	// :color: "no"
	// <nil>
}
