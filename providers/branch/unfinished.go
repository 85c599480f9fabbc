package branch

import "context"

// Unfinished returns the receipts [ErasureBegun] of the branches whose erasure is not complete, in order. Another
// [Provider.Erase] completes one. Without [Options].Receipts there are none.
func (p *Provider) Unfinished(ctx context.Context) ([]Receipt, error) {
	if err := p.Check(); err != nil || p.options.Receipts == nil {
		return nil, err
	}
	head, err := p.head(ctx)
	if err != nil || len(head.Begun) == 0 {
		return nil, err
	}
	last := make(map[Name]Receipt)
	for r, err := range p.options.Receipts.All(ctx) {
		if err != nil {
			return nil, err
		}
		if r.Kind == ErasureBegun {
			last[r.Name] = r
		}
	}
	list := make([]Receipt, 0, len(head.Begun))
	for _, n := range head.Begun {
		list = append(list, last[n])
	}
	return list, nil
}
