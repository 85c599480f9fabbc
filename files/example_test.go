package files_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

func Example() {
	ctx := context.Background()
	dataKey := kmsencrypted.NewDataKey() // the record's, from Box.Unwrap
	defer dataKey.Wipe()

	key := files.NewKey()
	defer key.Wipe()
	var object bytes.Buffer // a file or an upload
	w, err := files.NewWriter(ctx, &object, key, files.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(w, strings.NewReader("driving licence of Ada Lovelace")); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}

	place := files.Place{Format: files.Native, Table: "users", ID: []string{"7"}, Attachment: "license", File: w.ID()}
	column, err := files.WrapKey(dataKey, key, place)
	fmt.Println(object.Len(), "bytes,", column[:4], err)

	again, err := files.UnwrapKey(dataKey, column, place)
	if err != nil {
		log.Fatal(err)
	}
	defer again.Wipe()
	r, err := files.NewReaderAt(ctx, bytes.NewReader(object.Bytes()), int64(object.Len()), again)
	if err != nil {
		log.Fatal(err)
	}
	part := make([]byte, 12)
	_, err = r.ReadAt(part, 19)
	fmt.Printf("%d bytes, %s, %v\n", r.Size(), part, err)

	place.ID = []string{"8"}
	_, err = files.UnwrapKey(dataKey, column, place)
	fmt.Println(err)
	// Output:
	// 135 bytes, fk2: <nil>
	// 31 bytes, Ada Lovelace, <nil>
	// files: wrapped key: does not decrypt: wrong key, wrong context or changed bytes
}

// A job carries the tenant of the request that queued it.
func ExampleMarshalContext() {
	request := files.WithTenant(context.Background(), "acme")
	carried, err := files.MarshalContext(request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("the job has %s\n", carried)

	worker, err := files.UnmarshalContext(context.Background(), carried)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("it runs for", files.Tenant(worker))
	// Output:
	// the job has {"tenant":"acme"}
	// it runs for acme
}
