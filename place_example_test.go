package kmsencrypted_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
)

// Place tells whether a change of a record needs a new wrap of its data key: for a
// tenant that has another key, even a new data key.
func ExampleBox_Place() {
	tenants := map[string]kmsencrypted.Provider{"acme": kmstest.Memory(), "umbrella": kmstest.Memory()}
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{
		1: {ProviderFor: func(_ kmsencrypted.Subject, ec kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
			names, err := ec.Map()
			return tenants[names["tenant"]], err
		}},
	}}.Box()
	if err != nil {
		log.Fatal(err)
	}
	place := func(tenant, region string) kmsencrypted.Place {
		b := customer("7")
		b.Context = kmsencrypted.Context{"tenant": tenant, "region": region}
		p, err := box.Place(1, b)
		if err != nil {
			log.Fatal(err)
		}
		return p
	}
	now, region, tenant := place("acme", "eu"), place("acme", "us"), place("umbrella", "eu")
	fmt.Println("other region: same place", now == region, "same key", now.SameProvider(region))
	fmt.Println("other tenant: same place", now == tenant, "same key", now.SameProvider(tenant))
	// Output:
	// other region: same place false same key true
	// other tenant: same place false same key false
}

// Missing finds a key column that was written while one of several key services was
// unavailable. Rewrap completes it.
func ExampleBox_Missing() {
	frankfurt, ireland := kmstest.NewService(nil), kmstest.NewService(nil)
	box, err := kmsencrypted.NewBox(multi.New([]kmsencrypted.Provider{frankfurt.Provider(), ireland.Provider()},
		multi.Options{Tags: []string{"frankfurt", "ireland"}, Quorum: 1}))
	if err != nil {
		log.Fatal(err)
	}
	ctx, key := context.Background(), kmsencrypted.NewDataKey()
	defer key.Wipe()

	ireland.Set(kmstest.Unavailable(1)) // an outage
	column, err := box.Wrap(ctx, key, customer("7"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(box.Missing(column, customer("7")))
	ireland.Set() // and its end
	column, err = box.Rewrap(ctx, column, customer("7"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(box.Missing(column, customer("7")))
	// Output:
	// [ireland] <nil>
	// [] <nil>
}

// Retryable tells an outage, after which the same call may succeed, from a refusal.
func ExampleRetryable() {
	service := kmstest.NewService(nil)
	box, err := kmsencrypted.NewBox(service.Provider())
	if err != nil {
		log.Fatal(err)
	}
	for _, answer := range []kmstest.Fault{kmstest.Unavailable(1), kmstest.Fail(kmsencrypted.ErrDenied, 1)} {
		service.Set(answer)
		_, err := box.Encrypt(context.Background(), []byte("token"), nil)
		fmt.Println(kmsencrypted.Retryable(err), errors.Is(err, kmsencrypted.ErrDenied))
	}
	// Output:
	// true false
	// false true
}
