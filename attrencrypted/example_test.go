package attrencrypted_test

import (
	"fmt"
	"log"

	"github.com/kmsencrypted/kmsencrypted/attrencrypted"
)

func ExampleAttribute() {
	key := []byte("This is a key that is 256 bits!!")
	ssn, err := attrencrypted.New(key, attrencrypted.Options{})
	if err != nil {
		log.Fatal(err)
	}
	// What attr_encrypted :ssn stored in encrypted_ssn and encrypted_ssn_iv.
	plaintext, err := ssn.Decrypt(attrencrypted.Columns{
		Value: []byte("wkxdQHt8dF0DEnbEYj5ibSU=\n"),
		IV:    []byte("eccWNlFu2y/8TYNP\n"),
	})
	fmt.Printf("%s %v\n", plaintext, err)

	columns, err := ssn.Encrypt([]byte("123-45-6789"))
	fmt.Println(len(columns.Value), len(columns.IV), err)
	// Output:
	// x <nil>
	// 37 17 <nil>
}
