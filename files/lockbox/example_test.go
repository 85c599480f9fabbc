package lockbox_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	files "github.com/kmsencrypted/kmsencrypted/files/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

// Write what a Rails model with encrypts_attached :license reads.
func Example() {
	ctx := context.Background()
	master, err := lockbox.ParseMasterKey("f8e99640c86ac2ad3d646a0326ae0ab705ef5e34ca0bbf8306a980a639b4ef3a")
	if err != nil {
		log.Fatal(err)
	}
	key, err := master.AttributeKey("users", "license")
	if err != nil {
		log.Fatal(err)
	}
	defer clear(key)
	codec, err := files.New(key, files.Options{})
	if err != nil {
		log.Fatal(err)
	}
	var object strings.Builder
	if err := codec.Seal(ctx, &object, strings.NewReader("driving licence of Ada Lovelace"), nil); err != nil {
		log.Fatal(err)
	}
	err = codec.Open(ctx, os.Stdout, strings.NewReader(object.String()), nil)
	fmt.Println("", object.Len(), err)
	// Output: driving licence of Ada Lovelace 59 <nil>
}
