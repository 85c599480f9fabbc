package multi_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
)

func Example() {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	main, _ := local.Create(filepath.Join(dir, "main.txt"))
	recovery, _ := local.Create(filepath.Join(dir, "recovery.txt"))
	service := kmstest.NewService(main) // stands for a key service that may fail

	// Two regions of one key service have tags that differ by themselves.
	both := multi.New([]kmsencrypted.Provider{service.Provider(), recovery}, multi.Options{Tags: []string{"main", "recovery"}})
	box, err := kmsencrypted.NewBox(both)
	if err != nil {
		fmt.Println(err)
		return
	}
	column, err := box.Encrypt(context.Background(), []byte("token"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	service.Set(kmstest.Unavailable(1))
	token, err := box.Decrypt(context.Background(), column, nil)
	fmt.Println(string(token), err)
	// Output: token <nil>
}
