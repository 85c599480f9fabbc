package kmsotel_test

import (
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	kmsotel "github.com/kmsencrypted/kmsencrypted/otel"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// Events of branches become a counter, whose attributes name no branch unless asked.
func TestBranchMetrics(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{false, true} {
		sdk := newTelemetry()
		var o kmsotel.BranchOptions
		if named {
			o.Name = func(n branch.Name) string { return n.Parent }
		}
		observe, err := kmsotel.NewBranches(sdk.meters, o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			observe(t.Context(), branch.Event{Kind: branch.Opened, Name: branch.Name{Parent: "acme", Branch: fmt.Sprint("person ", i)}})
		}
		observe(t.Context(), branch.Event{Kind: branch.Refused, Name: branch.Name{Branch: "person 4"}, Err: kmsencrypted.ErrDenied})
		observe(t.Context(), branch.Event{Kind: branch.Erased, Name: branch.Name{Branch: "person 5"}})
		acme := int64(0)
		if named {
			acme = 3
		}
		for _, want := range []struct {
			key, value string
			n          int64
		}{
			{"kmsencrypted.event", "opened", 3}, {"kmsencrypted.event", "refused", 1}, {"kmsencrypted.event", "erased", 1},
			{"kmsencrypted.outcome", "denied", 1}, {"kmsencrypted.branch", "acme", acme}, {"kmsencrypted.branch", "person 4", 0},
		} {
			if got := counted(t, sdk, "kmsencrypted.branch.events", want.key, want.value); got != want.n {
				t.Errorf("%s=%s is %d, want %d", want.key, want.value, got, want.n)
			}
		}
	}
}
