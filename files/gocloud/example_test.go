package gocloud_test

import (
	"context"
	"fmt"

	"gocloud.dev/blob/memblob"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

func ExampleEncrypt() {
	ctx := context.Background()
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		panic(err)
	}
	bucket := gocloud.Encrypt(memblob.OpenBucket(nil), "contracts", box)
	defer bucket.Close()

	if err := bucket.WriteAll(ctx, "contracts/7.txt", []byte("signed by both"), nil); err != nil {
		panic(err)
	}
	text, err := bucket.ReadAll(ctx, "contracts/7.txt")
	fmt.Println(string(text), err)
	// Output: signed by both <nil>
}

func ExampleBucket_Rewrap() {
	ctx := context.Background()
	provider := testkey.New()
	inner := memblob.OpenBucket(nil)
	at := func(version int) *gocloud.Bucket {
		box, err := kmsencrypted.Config{
			Current:  version,
			Versions: map[int]kmsencrypted.Version{1: {Provider: provider}, 2: {Provider: provider}},
		}.Box()
		if err != nil {
			panic(err)
		}
		return gocloud.New(inner, "contracts", box, gocloud.Options{})
	}
	for _, key := range []string{"a", "b", "c"} {
		if err := at(1).Blob().WriteAll(ctx, key, []byte(key), nil); err != nil {
			panic(err)
		}
	}
	plan, err := at(2).Rewrap(ctx, gocloud.RewrapOptions{DryRun: true})
	fmt.Println("version 1:", plan.Found[1], err)
	done, err := at(2).Rewrap(ctx, gocloud.RewrapOptions{Workers: 1, Progress: func(done, total int64) {
		fmt.Printf("%d/%d ", done, total)
	}})
	fmt.Println("rewrapped:", done.Rewrapped, err)
	// Output:
	// version 1: 3 <nil>
	// 1/3 2/3 3/3 rewrapped: 3 <nil>
}
