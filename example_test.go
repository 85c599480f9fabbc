package kmsencrypted_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// The examples run offline under the insecure test key. A program would open a
// provider of its key service, such as aws.Open, vault.Open or local.Open.
func exampleBox() *kmsencrypted.Box {
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		log.Fatal(err)
	}
	return box
}

// customer binds a data key to the row of a customer.
func customer(id string) kmsencrypted.Binding {
	return kmsencrypted.Binding{
		Table: "customers", Column: "encrypted_kms_key", ID: []string{id},
		Context: kmsencrypted.Context{"model_name": "Customer", "model_id": id},
	}
}

func ExampleNewBox() {
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("writes version", box.Current(), "and reads", box.Versions())

	_, err = kmsencrypted.NewBox(nil)
	fmt.Println(err)
	// Output:
	// writes version 1 and reads [1]
	// kmsencrypted: invalid configuration: version 1 has no provider
}

// Version 2 seals records as a whole. It is current, and columns of version 1 stay
// readable until a rotation has moved them.
func ExampleConfig_Box() {
	key := testkey.New()
	box, err := kmsencrypted.Config{
		Current: 2,
		Versions: map[int]kmsencrypted.Version{
			1: {Provider: key},
			2: {Provider: key, RecordSeal: true},
		},
	}.Box()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("writes version", box.Current(), "and reads", box.Versions())

	// All mistakes are reported at once.
	_, err = kmsencrypted.Config{
		Current:     3,
		Versions:    map[int]kmsencrypted.Version{1: {Provider: key}},
		Concurrency: -1,
	}.Box()
	fmt.Println(errors.Is(err, kmsencrypted.ErrConfig))
	fmt.Println(err)
	// Output:
	// writes version 2 and reads [1 2]
	// true
	// kmsencrypted: invalid configuration: current version 3 is not listed
	// kmsencrypted: invalid configuration: concurrency -1
}

// Encrypt is for small secrets outside any table.
func ExampleBox_Encrypt() {
	ctx, box := context.Background(), exampleBox()
	purpose := kmsencrypted.Context{"purpose": "webhook", "partner": 7}

	column, err := box.Encrypt(ctx, []byte("token of partner 7"), purpose)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored as", column[:3]+"…")

	token, err := box.Decrypt(ctx, column, purpose)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", token)
	// Output:
	// stored as v1:…
	// token of partner 7
}

// A secret opens under the context that it was encrypted under, and no other.
func ExampleBox_Decrypt() {
	ctx, box := context.Background(), exampleBox()
	column, err := box.Encrypt(ctx, []byte("token of partner 7"), kmsencrypted.Context{"partner": 7})
	if err != nil {
		log.Fatal(err)
	}
	_, err = box.Decrypt(ctx, column, kmsencrypted.Context{"partner": 8})
	fmt.Println(errors.Is(err, kmsencrypted.ErrDecrypt))

	_, err = box.Decrypt(ctx, "token in plain text", kmsencrypted.Context{"partner": 7})
	fmt.Println(errors.Is(err, kmsencrypted.ErrMalformed))
	// Output:
	// true
	// true
}

// Wrap and Unwrap are what package field does with the data key of a record. A key
// column that was copied to another row does not open.
func ExampleBox_Wrap() {
	ctx, box := context.Background(), exampleBox()
	key := kmsencrypted.NewDataKey()
	defer key.Wipe()

	column, err := box.Wrap(ctx, key, customer("7"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("version", kmsencrypted.ColumnVersion(column))
	fmt.Println(key) // prints no key
	// Output:
	// version 1
	// [redacted]
}

func ExampleBox_Unwrap() {
	ctx, box := context.Background(), exampleBox()
	key := kmsencrypted.NewDataKey()
	defer key.Wipe()
	column, err := box.Wrap(ctx, key, customer("7"))
	if err != nil {
		log.Fatal(err)
	}

	opened, err := box.Unwrap(ctx, column, customer("7"))
	if err != nil {
		log.Fatal(err)
	}
	defer opened.Wipe()
	fmt.Println("same key:", opened.Equal(key))

	_, err = box.Unwrap(ctx, column, customer("8"))
	fmt.Println("in the row of customer 8:", errors.Is(err, kmsencrypted.ErrDecrypt))
	// Output:
	// same key: true
	// in the row of customer 8: true
}

// wrapThree wraps new data keys of customers 1 to 3.
func wrapThree(ctx context.Context, box *kmsencrypted.Box) []kmsencrypted.WrappedKey {
	var keys []kmsencrypted.KeyToWrap
	for _, id := range []string{"1", "2", "3"} {
		keys = append(keys, kmsencrypted.KeyToWrap{Key: kmsencrypted.NewDataKey(), Binding: customer(id)})
	}
	var wrapped []kmsencrypted.WrappedKey
	for i, result := range box.WrapAll(ctx, keys) {
		if result.Err != nil {
			log.Fatal(result.Err)
		}
		wrapped = append(wrapped, kmsencrypted.WrappedKey{Column: result.Column, Binding: keys[i].Binding})
		keys[i].Key.Wipe()
	}
	return wrapped
}

// Each key has its own error: a key without a primary key to bind it to does not
// keep the others from being wrapped.
func ExampleBox_WrapAll() {
	ctx, box := context.Background(), exampleBox()
	keys := []kmsencrypted.KeyToWrap{
		{Key: kmsencrypted.NewDataKey(), Binding: customer("1")},
		{Key: kmsencrypted.NewDataKey(), Binding: kmsencrypted.Binding{Table: "customers", Column: "encrypted_kms_key"}},
	}
	for i, result := range box.WrapAll(ctx, keys) {
		fmt.Println(i, result.Column != "", errors.Is(result.Err, kmsencrypted.ErrNoID))
		keys[i].Key.Wipe()
	}
	// Output:
	// 0 true false
	// 1 false true
}

func ExampleBox_UnwrapAll() {
	ctx, box := context.Background(), exampleBox()
	columns := wrapThree(ctx, box)
	columns[1].Column = "v9:" + columns[1].Column[3:] // a version that the Box does not list

	for i, result := range box.UnwrapAll(ctx, columns) {
		if result.Err != nil {
			fmt.Println(i, result.Err)
			continue
		}
		fmt.Println(i, result.Key)
		result.Key.Wipe()
	}
	// Output:
	// 0 [redacted]
	// 1 kmsencrypted: read version 9: version not active: list it in Config.Versions to read it
	// 2 [redacted]
}

// UnwrapEach lets a program use the first keys while the service is still asked for
// the others.
func ExampleBox_UnwrapEach() {
	ctx, box := context.Background(), exampleBox()
	for i, result := range box.UnwrapEach(ctx, wrapThree(ctx, box)) {
		if result.Err != nil {
			log.Fatal(result.Err)
		}
		fmt.Println("customer", i+1, result.Key)
		result.Key.Wipe()
	}
	// Unordered output:
	// customer 1 [redacted]
	// customer 2 [redacted]
	// customer 3 [redacted]
}

// twoVersions returns a Box that writes version 1, and one that writes version 2.
func twoVersions() (before, after *kmsencrypted.Box) {
	config := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{
		1: {Provider: testkey.New()},
		2: {Provider: testkey.New()}, // in a program: another key
	}}
	before, err := config.Box()
	if err != nil {
		log.Fatal(err)
	}
	config.Current = 2
	if after, err = config.Box(); err != nil {
		log.Fatal(err)
	}
	return before, after
}

// Rewrap moves a key column to the current version. The data key stays the same, so
// the columns that were sealed under it stay valid.
func ExampleBox_Rewrap() {
	ctx := context.Background()
	before, after := twoVersions()
	key := kmsencrypted.NewDataKey()
	defer key.Wipe()
	old, err := before.Wrap(ctx, key, customer("7"))
	if err != nil {
		log.Fatal(err)
	}

	column, err := after.Rewrap(ctx, old, customer("7"))
	if err != nil {
		log.Fatal(err)
	}
	opened, err := after.Unwrap(ctx, column, customer("7"))
	if err != nil {
		log.Fatal(err)
	}
	defer opened.Wipe()
	fmt.Println("version", kmsencrypted.ColumnVersion(old), "to", kmsencrypted.ColumnVersion(column))
	fmt.Println("same key:", opened.Equal(key))
	// Output:
	// version 1 to 2
	// same key: true
}

func ExampleBox_RewrapAll() {
	ctx := context.Background()
	before, after := twoVersions()
	for i, result := range after.RewrapAll(ctx, wrapThree(ctx, before)) {
		if result.Err != nil {
			log.Fatal(result.Err)
		}
		fmt.Println("customer", i+1, "is at version", kmsencrypted.ColumnVersion(result.Column))
	}
	// Output:
	// customer 1 is at version 2
	// customer 2 is at version 2
	// customer 3 is at version 2
}

// ContextWith adds to the context of a record what belongs to the record.
func ExampleContextWith() {
	record := kmsencrypted.Context{"model_name": "Customer", "model_id": 7}
	file := kmsencrypted.ContextWith(record, kmsencrypted.Pair{Name: "attachment", Value: "license"})
	bound, err := kmsencrypted.Bind(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bound)

	_, err = kmsencrypted.Bind(kmsencrypted.ContextWith(record, kmsencrypted.Pair{Name: "model_id", Value: 8}))
	fmt.Println(errors.Is(err, kmsencrypted.ErrContext))
	// Output:
	// {"attachment":"license","model_id":"7","model_name":"Customer"}
	// true
}

// LogEvents writes one line for each request to a key service.
func ExampleLogEvents() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "duration" { // which differ from run to run
				return slog.Attr{}
			}
			return a
		},
	}))
	box, err := kmsencrypted.Config{
		Current:  1,
		Versions: map[int]kmsencrypted.Version{1: {Provider: testkey.New()}},
		Observer: kmsencrypted.LogEvents(logger),
	}.Box()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := box.Encrypt(context.Background(), []byte("token"), kmsencrypted.Context{"partner": 7}); err != nil {
		log.Fatal(err)
	}
	// Output:
	// level=DEBUG msg="kms request" op=wrap provider=insecure-test-key key_id=insecure-test-key version=1 context="{\"partner\":\"7\"}" count=1
}

// With a cache the second Unwrap makes no request, and the log of the key service
// does not show it.
func ExampleCacheConfig() {
	requests := 0
	box, err := kmsencrypted.Config{
		Current:  1,
		Versions: map[int]kmsencrypted.Version{1: {Provider: testkey.New()}},
		Cache:    &kmsencrypted.CacheConfig{MaxAge: time.Minute, MaxEntries: 1000},
		Observer: func(_ context.Context, e kmsencrypted.Event) {
			if e.Op == kmsencrypted.OpUnwrap {
				requests++
			}
		},
	}.Box()
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	column, err := box.Wrap(ctx, kmsencrypted.NewDataKey(), customer("7"))
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		key, err := box.Unwrap(ctx, column, customer("7"))
		if err != nil {
			log.Fatal(err)
		}
		key.Wipe()
	}
	fmt.Println("requests:", requests)
	// Output:
	// requests: 1
}

// Bind converts a context as the Box does for a provider, and finds its mistakes.
func ExampleBind() {
	bound, err := kmsencrypted.Bind(kmsencrypted.Context{"purpose": "webhook", "partner": 7})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bound)
	_, err = kmsencrypted.Bind(kmsencrypted.Context{"price": 1.5})
	fmt.Println(errors.Is(err, kmsencrypted.ErrContext))
	// Output:
	// {"partner":"7","purpose":"webhook"}
	// true
}

// ColumnVersion reads the version that every key column begins with.
func ExampleColumnVersion() {
	fmt.Println(kmsencrypted.ColumnVersion("v2:AaSKivGWS8l…"))
	// Output: 2
}
