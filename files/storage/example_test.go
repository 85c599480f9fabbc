package storage_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/files/storage"
)

const text = `
local:
  service: Disk
  root: ${APP_FILES}
archive:
  service: EncryptedS3
  bucket: my-app
  region: eu-central-1
  encryption_key: ${ARCHIVE_KEY}
`

func ExampleOpen() {
	ctx := context.Background()
	folder, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	environment := map[string]string{"APP_FILES": folder, "ARCHIVE_KEY": "a static key that has 32 bytes.."}

	services, err := storage.Open(ctx, []byte(text), storage.Options{
		Strict:    true, // no secret may stand in the text
		LookupEnv: func(name string) (string, bool) { value, ok := environment[name]; return value, ok },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer services.Close()

	local, err := services.Service("local")
	if err != nil {
		log.Fatal(err)
	}
	if err := local.Upload(ctx, "reports/2026.txt", strings.NewReader("all is well"), storage.UploadOptions{}); err != nil {
		log.Fatal(err)
	}
	chunk, err := local.Chunk(ctx, "reports/2026.txt", 4, 2)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%v: %s\n", services.Names(), chunk)

	_, err = services.Service("achive")
	fmt.Println(err)
	// Output:
	// [archive local]: is
	// storage: invalid configuration: no service "achive" in the configuration
}
