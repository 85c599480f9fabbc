package local_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// A key file is made once, and a new key is put in front of the old one later.
func Example() {
	folder, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "keys.txt")
	provider, err := local.Create(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, purpose := context.Background(), kmsencrypted.Context{"purpose": "webhook"}
	box, err := kmsencrypted.NewBox(provider)
	if err != nil {
		fmt.Println(err)
		return
	}
	column, err := box.Encrypt(ctx, []byte("4711"), purpose)
	if err != nil {
		fmt.Println(err)
		return
	}

	if provider, err = local.Rotate(path); err != nil {
		fmt.Println(err)
		return
	}
	if box, err = kmsencrypted.NewBox(provider); err != nil {
		fmt.Println(err)
		return
	}
	token, err := box.Decrypt(ctx, column, purpose)
	fmt.Println(string(token), err)
	// Output: 4711 <nil>
}
