package intercept_test

import (
	"context"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/intercept"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// A provider that logs each request with its contexts. The plaintexts that a key
// service returns stay out of it.
func ExampleWrap() {
	logged := intercept.Wrap(testkey.New(), nil, func(ctx context.Context, call *intercept.Call, next func(context.Context) error) error {
		err := next(ctx)
		fmt.Println(call.Op, call.Contexts, err)
		return err
	})
	box, err := kmsencrypted.NewBox(logged)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	column, err := box.Encrypt(ctx, []byte("a token"), kmsencrypted.Context{"purpose": "webhook"})
	if err != nil {
		panic(err)
	}
	token, err := box.Decrypt(ctx, column, kmsencrypted.Context{"purpose": "webhook"})
	fmt.Println(string(token), err)
	// Output:
	// wrap [{"purpose":"webhook"}] <nil>
	// unwrap [{"purpose":"webhook"}] <nil>
	// a token <nil>
}
