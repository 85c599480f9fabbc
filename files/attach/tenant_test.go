package attach_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// tenantBuckets resolves a tenant to the bucket of its name.
func tenantBuckets(c *attach.Config) {
	c.Buckets = map[string]attach.Bucket{"main": new(attach.Memory), "acme": new(attach.Memory), "umbrella": new(attach.Memory)}
	c.Bucket, c.BucketOf = "main", nil
	c.Resolve = func(ctx context.Context, attachment string) (string, error) {
		if attachment == "license" {
			return "", nil // only scans are kept apart
		}
		return files.Tenant(ctx), nil
	}
}

// Two tenants at the same time: each file goes to the bucket of its tenant and is read
// from there by whoever asks.
func TestTenantsAtOnce(t *testing.T) {
	t.Parallel()
	const uploads = 1000
	w := newWorld(t, sqlite, tenantBuckets)
	c := w.insert(t, 1)
	var group sync.WaitGroup
	pending := make([]*attach.Pending[customer], uploads)
	for i := range uploads {
		group.Go(func() {
			tenant := []string{"acme", "umbrella"}[i%2]
			row := *c
			var err error
			if pending[i], err = w.manager.Upload(files.WithTenant(t.Context(), tenant), &row, "scans", strings.NewReader(tenant), attach.Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	stored := make(map[string]int)
	for _, tenant := range []string{"acme", "umbrella"} { // whose names have another length
		bucket := w.config.Buckets[tenant].(*attach.Memory)
		names, want := bucket.Names(), int64(0)
		for _, name := range names {
			object, err := bucket.Open(t.Context(), name)
			must(t, err)
			if want, err = files.SealedSize(int64(len(tenant))); err != nil || object.Size() != want {
				t.Errorf("%s has an object of %d bytes, want %d", tenant, object.Size(), want)
			}
		}
		stored[tenant] = len(names)
	}
	for _, p := range pending {
		must(t, p.Discard(t.Context()))
	}
	// An upload that was tried again, because the database was busy, may leave an object that
	// the sweeper knows.
	for tenant, before := range stored {
		left := w.config.Buckets[tenant].(*attach.Memory).Names()
		if own := before - len(left); own != uploads/2 {
			t.Errorf("%s had %d objects of its uploads, want %d", tenant, own, uploads/2)
		}
		for _, name := range left {
			if w.count(t, "SELECT count(*) FROM kms_attachment_objects WHERE bucket = ? AND object = ?", tenant, name) != 1 {
				t.Errorf("%s: nobody knows the object %s", tenant, name)
			}
		}
	}
	if n := len(w.config.Buckets["main"].(*attach.Memory).Names()); n != 0 {
		t.Errorf("%d objects of tenants are in the bucket of all", n)
	}
}

// A file stays with its tenant, whoever reads it, encrypts it anew or derives from it.
func TestTenantStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, tenantBuckets)
	c := w.insert(t, 1)
	acme := files.WithTenant(t.Context(), "acme")
	put := func(ctx context.Context, name string, o attach.Options) *attach.Attachment {
		t.Helper()
		p, err := w.manager.Upload(ctx, c, name, strings.NewReader("of the tenant"), o)
		must(t, err)
		a, err := w.commit(t, p)
		must(t, err)
		return a
	}
	for _, test := range []struct {
		ctx  context.Context
		name string
		o    attach.Options
		want string
	}{
		{acme, "scans", attach.Options{}, "acme"},
		{acme, "scans", attach.Options{Bucket: "umbrella"}, "umbrella"}, // whoever names one has it
		{acme, "license", attach.Options{}, "main"},
		{t.Context(), "scans", attach.Options{}, "main"},
	} {
		a := put(test.ctx, test.name, test.o)
		if a.Bucket != test.want {
			t.Errorf("%s of %q is in %s, want %s", test.name, files.Tenant(test.ctx), a.Bucket, test.want)
		}
		w.holds(t, a, []byte("of the tenant"))                 // without a tenant
		moved, err := w.manager.Reencrypt(t.Context(), a, nil) // by a job of operations
		must(t, err)
		if moved.Bucket != test.want {
			t.Errorf("Reencrypt moved a file from %s to %s", test.want, moved.Bucket)
		}
		w.holds(t, moved, []byte("of the tenant"))
		if variant := w.derive(t, c, moved); variant.Bucket != test.want {
			t.Errorf("what is derived from a file in %s lies in %s", test.want, variant.Bucket)
		}
	}
}

// A tenant whose bucket is not configured is an error, or a warning where the program says
// so.
func TestTenantWithoutBucket(t *testing.T) {
	t.Parallel()
	nobody := files.WithTenant(t.Context(), "nobody")
	w := newWorld(t, sqlite, tenantBuckets)
	if _, err := w.manager.Upload(nobody, w.insert(t, 1), "scans", strings.NewReader("x"), attach.Options{}); !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("an unknown bucket = %v", err)
	}
	refused := errors.New("no such tenant")
	w = newWorld(t, sqlite, func(c *attach.Config) {
		tenantBuckets(c)
		c.Resolve = func(context.Context, string) (string, error) { return "", refused }
	})
	if _, err := w.manager.Upload(nobody, w.insert(t, 1), "scans", strings.NewReader("x"), attach.Options{}); !errors.Is(err, refused) {
		t.Errorf("Resolve's error = %v", err)
	}
	var warnings []string
	w = newWorld(t, sqlite, func(c *attach.Config) {
		tenantBuckets(c)
		c.Fallback = func(_ context.Context, attachment, bucket string) {
			warnings = append(warnings, fmt.Sprint(attachment, " ", bucket))
		}
	})
	p, err := w.manager.Upload(nobody, w.insert(t, 1), "scans", strings.NewReader("x"), attach.Options{})
	must(t, err)
	a, err := w.commit(t, p)
	must(t, err)
	if a.Bucket != "main" || fmt.Sprint(warnings) != "[scans nobody]" {
		t.Errorf("Fallback: the file is in %s, warnings %v", a.Bucket, warnings)
	}
}
