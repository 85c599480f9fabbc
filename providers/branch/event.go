package branch

import "context"

// EventKind says what happened to a branch key.
type EventKind string

// The kinds of events.
const (
	Opened  EventKind = "opened"  // unwrapped by the key service, or by its parent
	Created EventKind = "created" // the first version of a branch was made
	Renewed EventKind = "renewed" // another version was made
	Stale   EventKind = "stale"   // used after MaxAge, because the key service is away; Err says how
	Refused EventKind = "refused" // not opened; Err says why
	Closed  EventKind = "closed"  // an erasure of the branch has begun
	Erased  EventKind = "erased"  // all keys of the branch are gone
)

// Event is something that happened to a branch key. It contains nothing secret.
type Event struct {
	Kind    EventKind
	Name    Name
	Version uint32
	Err     error
}

func (p *Provider) observe(ctx context.Context, e Event) {
	if p.options.Observer != nil {
		p.options.Observer(ctx, e)
	}
}
