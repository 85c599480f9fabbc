package gcp_test

import (
	"context"
	"fmt"

	"google.golang.org/api/option"

	kms "cloud.google.com/go/kms/apiv1"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
)

const customersKey = "projects/acme-prod/locations/europe-west3/keyRings/app/cryptoKeys/customers"

// Credentials are the application default ones.
func ExampleOpen() {
	ctx := context.Background()
	provider, err := gcp.Open(ctx, customersKey, gcp.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer provider.Close()
	// Is the key there and its primary version enabled? This needs
	// cloudkms.cryptoKeys.get.
	if err := provider.Probe(ctx); err != nil {
		fmt.Println(err)
		return
	}
	box, err := kmsencrypted.NewBox(provider)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("writing version", box.Current())
}

// One client may serve several providers. The program that made it closes it.
func ExampleNew() {
	ctx := context.Background()
	client, err := kms.NewKeyManagementClient(ctx, option.WithQuotaProject("acme-prod"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	provider, err := gcp.New(client, customersKey, gcp.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(provider.Info().Tag)
}
