package rotatecli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
)

type policyCmd struct {
	Service string   `arg:"" enum:"aws,gcp,vault,postgres,mysql" help:"${enum}; mysql is MariaDB too."`
	Role    string   `required:"" enum:"app,writer,reader,ops" help:"app reads and writes records, writer only encrypts, reader only decrypts, ops runs the commands of this program."`
	To      string   `placeholder:"NAME" help:"Who gets it: the database user, or Google's member. Without it: named like the role."`
	Key     []string `placeholder:"ID" sep:"none" help:"The key, instead of those of the versions; may be repeated. AWS needs the ARN."`
	Mount   string   `default:"transit" help:"Where Vault's transit engine is mounted."`
	Pair    []string `placeholder:"NAME[=VALUE]" sep:"none" help:"A pair of the encryption context, for AWS, if the models do not tell; may be repeated."`
}

func (policyCmd) Help() string {
	return `Prints the least rights that a role needs, made from the models and the listed versions.
Every line names what is lost without it. Nothing is changed. Examples:

  policy postgres --role ops
  policy vault --role writer > customers-writer.hcl
  policy aws --role reader --key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-…

Those of vault, postgres and mysql are tested against real servers, each line by taking it
away. Those of aws and gcp are checked for their syntax only.`
}

// Roles of a policy.
const (
	roleApp    = "app"
	roleWriter = "writer"
	roleReader = "reader"
	roleOps    = "ops"
)

// permission is a line of a policy.
type permission struct {
	line  string
	loses []string // what does not work without it
}

func (c *policyCmd) Run(ctx context.Context, s *Session) error {
	c.To = cmp.Or(c.To, c.Role)
	switch c.Service {
	case "aws":
		return c.printAWS(ctx, s)
	case "gcp":
		return c.printKeys(ctx, s, c.gcp)
	case "vault":
		return c.printKeys(ctx, s, c.vault)
	}
	return c.printGrants(ctx, s)
}

// printed writes lines with what is lost without each behind a mark of comments.
func (s *Session) printPermissions(lines []permission, comment string) {
	seen := make(map[string]bool) // tables share those of the library
	for _, p := range lines {
		if !seen[p.line] {
			s.printf("%s %s %s\n", p.line, comment, strings.Join(p.loses, ", "))
		}
		seen[p.line] = true
	}
}

func (c *policyCmd) printGrants(ctx context.Context, s *Session) error {
	d, err := s.Database(ctx)
	if err != nil {
		return err
	}
	if d.Dialect != field.Dialect(c.Service) {
		return usage("the tables are in a database of %s", d.Dialect)
	}
	g := granting{database: d, role: c.Role, to: grantee(d.Dialect, c.To)}
	lines, err := g.all(ctx)
	if err != nil {
		return err
	}
	s.printf("-- %s: run by the owner of the database, who also makes and changes tables (%s tables --create).\n", c.Role, s.name)
	s.printf("-- Behind each line: what does not work without it.\n")
	s.printPermissions(lines, "--")
	return nil
}

// grantee quotes the name of a user. MariaDB and MySQL have users of a host.
func grantee(d field.Dialect, name string) string {
	user, host, found := strings.Cut(name, "@")
	if d != field.MySQL || !found {
		return d.Quoted(name)
	}
	return fmt.Sprintf("%s@%s", d.Quoted(user), d.Quoted(host))
}
