package rotatecli

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted"
)

type contextHashCmd struct {
	Audit   string            `required:"" placeholder:"PATH" help:"The path of Vault's audit device, such as file."`
	Key     string            `placeholder:"ID" help:"The key, such as vault/customers. Without it: the first of Vault in the versions."`
	Context map[string]string `arg:"" name:"name=value" mapsep:"none" help:"The encryption context of the record."`
}

func (contextHashCmd) Help() string {
	return `Find out who decrypted a record: search Vault's audit log for what is printed.
Example:

  context-hash --audit file --key vault/customers model_name=User model_id=7`
}

// hasher is the ability of Vault's provider to hash contexts.
type hasher interface {
	ContextHash(ctx context.Context, device string, ec kmsencrypted.BoundContext) (string, error)
}

func (c *contextHashCmd) Run(ctx context.Context, s *Session) error {
	ec := kmsencrypted.Context{}
	for name, value := range c.Context {
		ec[name] = value
	}
	bound, err := kmsencrypted.Bind(ec)
	if err != nil {
		return err
	}
	provider, err := c.provider(ctx, s, bound)
	if err != nil {
		return err
	}
	hash, err := provider.ContextHash(ctx, c.Audit, bound)
	if err != nil {
		return err
	}
	s.printf("%s\n", hash)
	return nil
}

func (c *contextHashCmd) provider(ctx context.Context, s *Session, bound kmsencrypted.BoundContext) (hasher, error) {
	candidates, err := (&doctorCmd{Key: c.Key, Context: c.Context}).providers(ctx, s, bound)
	if err != nil {
		return nil, err
	}
	for _, p := range candidates {
		if h, ok := p.provider.(hasher); ok {
			return h, nil
		}
	}
	return nil, usage("only Vault hashes contexts in its log: give --key vault/NAME")
}
