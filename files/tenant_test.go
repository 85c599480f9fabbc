package files

import (
	"context"
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// What one process marshals the other reads, and nothing else.
func TestTenant(t *testing.T) {
	t.Parallel()
	if got := Tenant(t.Context()); got != "" {
		t.Errorf("no tenant = %q", got)
	}
	for _, tenant := range []string{"", "acme", `quoted " name`, "Ünïcode", "a/b:c"} {
		text, err := MarshalContext(WithTenant(t.Context(), tenant))
		if err != nil {
			t.Fatal(err)
		}
		ctx, err := UnmarshalContext(WithTenant(t.Context(), "of the worker"), text)
		if err != nil || Tenant(ctx) != tenant {
			t.Errorf("%s = %q, %v, want %q", text, Tenant(ctx), err, tenant)
		}
	}
	if ctx, err := UnmarshalContext(WithTenant(t.Context(), "of the worker"), nil); err != nil || Tenant(ctx) != "" {
		t.Errorf("a job without a context = %v", err)
	}
	if ctx, err := UnmarshalContext(t.Context(), []byte(`{"tenant":"acme","later":{"x":1}}`)); err != nil || Tenant(ctx) != "acme" {
		t.Errorf("a job of a later release = %v", err)
	}
	for _, text := range []string{"x", "[]", `{"tenant":7}`, `"acme"`, `{"tenant":"acme"}x`} {
		if ctx, err := UnmarshalContext(t.Context(), []byte(text)); ctx != nil || !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("%s = %v", text, err)
		}
	}
	if _, err := MarshalContext(WithTenant(context.Background(), "\xff")); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("a name that is no UTF-8 = %v", err)
	}
}
