package aws_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
)

// What nobody set up returns an error instead of a panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	zerotest.Calls(t, map[string]func() error{
		"New(nil)": func() error { _, err := aws.New(nil, "alias/app", aws.Options{}); return err },
		"New with what is for Open": func() error {
			_, err := aws.New(kms.New(kms.Options{Region: "eu-central-1"}), "alias/app", aws.Options{Load: []func(*config.LoadOptions) error{config.WithRegion("eu-west-1")}})
			return err
		},
		"New of a nil client": func() error { _, err := aws.New((*kms.Client)(nil), "alias/app", aws.Options{}); return err },
	})
}
