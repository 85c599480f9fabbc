package attach_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// asked is a bucket in memory that tells which object is about to be opened.
type asked struct {
	*attach.Memory
	opens func(name string)
}

func (a *asked) Open(ctx context.Context, name string) (attach.Object, error) {
	if a.opens != nil {
		a.opens(name)
	}
	return a.Memory.Open(ctx, name)
}

// A file that is deleted and swept while WrapRecovery looks at it leaves no sidecar. One
// that stays gets the sidecar that it lacks.
func TestSweepBesideWrapRecovery(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		for _, deleted := range []bool{false, true} {
			bucket := &asked{Memory: new(attach.Memory)}
			w := newWorld(t, d, func(c *attach.Config) {
				c.Buckets, c.Grace = map[string]attach.Bucket{"main": bucket}, time.Millisecond
				c.Recovery = &attach.Recovery{Box: kmstest.Box(t), Store: "test"}
			})
			a := w.attach(t, w.insert(t, 1), "license", []byte("content"))
			must(t, bucket.Delete(t.Context(), a.Object+attach.SidecarSuffix))
			bucket.opens = func(name string) {
				if bucket.opens = nil; deleted {
					must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, a) }))
					time.Sleep(5 * time.Millisecond)
					if swept, err := w.manager.Sweep(t.Context()); err != nil || swept.Deleted != 1 {
						t.Errorf("Sweep = %+v, %v, want one object", swept, err)
					}
				}
			}
			err := w.manager.WrapRecovery(t.Context(), nil)
			names := strings.Join(bucket.Names(), " ")
			if want := a.Object + " " + a.Object + attach.SidecarSuffix; !deleted && (err != nil || names != want) {
				t.Errorf("WrapRecovery = %v, the bucket has %q, want %q", err, names, want)
			}
			if deleted && names != "" {
				t.Errorf("after WrapRecovery (%v) the bucket has %q, want nothing", err, names)
			}
		}
	})
}
