package storage_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/files/storage"
)

// To ask a folder for an object, as each upload does, takes no longer the more objects it has.
func TestExistsDoesNotWalk(t *testing.T) {
	services, err := storage.Open(t.Context(), []byte("local:\n  service: Disk\n  root: "+t.TempDir()), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer services.Close()
	local, err := services.Service("local")
	if err != nil {
		t.Fatal(err)
	}
	asks := func(key string, want bool) float64 {
		t.Helper()
		return testing.AllocsPerRun(5, func() {
			if is, err := local.Exists(t.Context(), key); err != nil || is != want {
				t.Errorf("Exists(%s) = %v, %v, want %v", key, is, err, want)
			}
		})
	}
	const many = 300
	for n := range many {
		if err := local.Upload(t.Context(), fmt.Sprintf("%04d-object", n), strings.NewReader("x"), storage.UploadOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for key, want := range map[string]bool{"0000-object": true, "0299-object": true, "nothing": false, "0000-object/below": false, "00": false} {
		if n := asks(key, want); n > many/2 {
			t.Errorf("Exists(%s) takes %.0f allocations beside %d objects", key, n, many)
		}
	}
}
