package aws_test

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
)

const keyARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

// Credentials come from where the SDK finds them, the region from the ARN.
func ExampleOpen() {
	ctx := context.Background()
	provider, err := aws.Open(ctx, keyARN, aws.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	// Is the key there and enabled? The role needs kms:DescribeKey for this.
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

// A client of one's own keeps the SDK's timeouts and retries unless it sets others.
func ExampleNew() {
	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion("eu-central-1"), config.WithRetryMaxAttempts(2))
	if err != nil {
		fmt.Println(err)
		return
	}
	provider, err := aws.New(kms.NewFromConfig(cfg), keyARN, aws.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(provider.Info().Tag)
}
