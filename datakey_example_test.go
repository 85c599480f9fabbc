package kmsencrypted_test

import (
	"bytes"
	"errors"
	"fmt"
	"log"

	"github.com/kmsencrypted/kmsencrypted"
)

// Derive makes a key for a use of its own, such as the signature of webhooks. The
// same label always gives the same bytes, and another label gives others.
func ExampleDataKey_Derive() {
	key := kmsencrypted.NewDataKey()
	defer key.Wipe()
	derive := func(label string) []byte {
		secret, err := key.Derive(label, 32)
		if err != nil {
			log.Fatal(err)
		}
		return secret
	}
	webhook := derive("webhook/1")
	defer clear(webhook)
	fmt.Println(len(webhook), "bytes")
	fmt.Println("same label:", bytes.Equal(webhook, derive("webhook/1")))
	fmt.Println("other label:", bytes.Equal(webhook, derive("webhook/2")))
	// Output:
	// 32 bytes
	// same label: true
	// other label: false
}

// Cipher seals what is not in a column. Its additional data says what it is: the
// bytes open nowhere else.
func ExampleDataKey_Cipher() {
	key := kmsencrypted.NewDataKey()
	defer key.Wipe()
	aead, err := key.Cipher()
	if err != nil {
		log.Fatal(err)
	}
	sealed := aead.Seal(nil, nil, []byte("engines"), []byte("note/1")) // makes its own nonce
	note, err := aead.Open(nil, nil, sealed, []byte("note/1"))
	fmt.Println(string(note), err)
	_, err = aead.Open(nil, nil, sealed, []byte("note/2"))
	fmt.Println("as another note:", err != nil)
	// Output:
	// engines <nil>
	// as another note: true
}

// A wiped key is of no use to anyone who still holds it.
func ExampleDataKey_Wipe() {
	key := kmsencrypted.NewDataKey()
	other := key // the same key
	key.Wipe()
	_, err := other.Derive("webhook/1", 32)
	fmt.Println(errors.Is(err, kmsencrypted.ErrWiped))
	// Output: true
}
