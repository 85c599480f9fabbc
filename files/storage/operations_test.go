package storage_test

import (
	"testing"

	_ "gocloud.dev/blob/memblob"

	"github.com/kmsencrypted/kmsencrypted/files/storage"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/servicetest"
)

// The operations of a service of Active Storage, on every kind that needs no network.
func TestOperations(t *testing.T) {
	t.Parallel()
	text := "disk: {service: Disk, root: " + t.TempDir() + "}\nmemory: {service: Memory}\nurl: {service: URL, url: 'mem://', prefix: some/}"
	services, err := storage.Open(t.Context(), []byte(text), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := services.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range services.Names() {
		t.Run(name, func(t *testing.T) {
			s, err := services.Service(name)
			if err != nil {
				t.Fatal(err)
			}
			servicetest.Run(t, s)
		})
	}
}
