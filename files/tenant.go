package files

import (
	"context"
	"encoding/json"
	"unicode/utf8"
)

// tenantKey is that of the tenant in a context.
type tenantKey struct{}

// WithTenant returns a context for work that is done for a tenant, such as one request.
// Package attach passes it to attach.Config.Resolve, which chooses the store of a new
// file. Nothing is global: two requests at the same time have contexts of their own. An
// empty name is no tenant.
func WithTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

// Tenant returns the tenant of a context, or "" if it has none.
func Tenant(ctx context.Context) string {
	tenant, _ := ctx.Value(tenantKey{}).(string)
	return tenant
}

// carried is what [MarshalContext] writes. Readers ignore what they do not know.
type carried struct {
	Tenant string `json:"tenant,omitempty"`
}

// MarshalContext returns the tenant of a context as a JSON object that is stored with a job
// and given to [UnmarshalContext] where the job runs. It is neither encrypted nor
// authenticated: whoever can write to the queue chooses the tenant. A tenant whose name is
// no UTF-8 is [kmsencrypted.ErrConfig].
func MarshalContext(ctx context.Context) ([]byte, error) {
	tenant := Tenant(ctx)
	if !utf8.ValidString(tenant) {
		return nil, configError("the name of the tenant is no UTF-8")
	}
	return json.Marshal(carried{tenant})
}

// UnmarshalContext returns a context with the tenant of a job. A job without one, also if
// text is empty, has no tenant, whatever ctx had. It returns [kmsencrypted.ErrMalformed]
// for a text that [MarshalContext] did not write.
func UnmarshalContext(ctx context.Context, text []byte) (context.Context, error) {
	var is carried
	if len(text) > 0 {
		if err := json.Unmarshal(text, &is); err != nil {
			return nil, malformed("tenant of a job: no JSON object")
		}
	}
	return WithTenant(ctx, is.Tenant), nil
}
