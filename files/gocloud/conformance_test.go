package gocloud

import (
	"context"
	"net/http"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/drivertest"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/memblob"

	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// harness makes encrypted drivers for go-cloud's own conformance tests.
type harness struct {
	inner *blob.Bucket
	t     *testing.T
}

func (h harness) MakeDriver(context.Context) (driver.Bucket, error) {
	return driverBucket{New(h.inner, "test", kmstest.Box(h.t), Options{})}, nil
}

// The stores below have no bucket that does not exist.
func (harness) MakeDriverForNonexistentBucket(context.Context) (driver.Bucket, error) {
	return nil, nil
}

func (harness) HTTPClient() *http.Client         { return nil }
func (harness) SupportsCopy() bool               { return true }
func (harness) SupportsNonSlashDelimiters() bool { return true }
func (harness) Close()                           {}

// inners are the buckets that tests encrypt.
var inners = map[string]func(t testing.TB) *blob.Bucket{
	"memory": func(testing.TB) *blob.Bucket { return memblob.OpenBucket(nil) },
	"disk": func(t testing.TB) *blob.Bucket {
		b, err := fileblob.OpenBucket(t.TempDir(), &fileblob.Options{NoTempDir: true})
		if err != nil {
			t.Fatal(err)
		}
		return b
	},
	"disk without attributes": func(t testing.TB) *blob.Bucket {
		b, err := fileblob.OpenBucket(t.TempDir(), &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
		if err != nil {
			t.Fatal(err)
		}
		return b
	},
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, inner := range inners {
		t.Run(name, func(t *testing.T) {
			drivertest.RunConformanceTests(t, func(_ context.Context, t *testing.T) (drivertest.Harness, error) {
				return harness{inner: inner(t), t: t}, nil
			}, nil)
		})
	}
}
