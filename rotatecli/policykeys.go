package rotatecli

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// What a role does with a key. The text is what is lost without the permission.
const (
	starts  = "start (Open, Probe)"
	wraps   = "make data keys"
	unwraps = "open records"
	rewraps = "rewrap inside the service"
)

var operationsOf = map[string][]string{
	roleApp:    {starts, wraps, unwraps},
	roleWriter: {starts, wraps},
	roleReader: {starts, unwraps},
	roleOps:    {starts, wraps, unwraps, rewraps},
}

// keyUse is a key that a model uses.
type keyUse struct {
	key     string
	of      string // table, or "branches"
	version int
	written bool // data keys are wrapped under it; not only old ones unwrapped
	shape   func() (contextShape, error)
}

// services recognise the ids of their keys.
var keyServices = map[string]func(id string) bool{
	"vault": func(id string) bool { return strings.HasPrefix(id, "vault/") },
	"gcp":   func(id string) bool { return strings.HasPrefix(id, "projects/") },
	"aws": func(id string) bool {
		return strings.HasPrefix(id, "arn:") || strings.HasPrefix(id, "alias/") || !strings.ContainsAny(id, "/:")
	},
}

// uses lists the keys of the service that the models use.
func (c *policyCmd) uses(ctx context.Context, s *Session) (all []keyUse, err error) {
	d, err := s.Database(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range d.Models {
		model := m.Dynamic().Adapter()
		for _, column := range model.KeyColumns() {
			of, err := c.usesOf(model, m.Table(), column)
			if err != nil {
				return nil, err
			}
			all = append(all, of...)
		}
	}
	all = slices.DeleteFunc(all, func(u keyUse) bool { return !keyServices[c.Service](u.key) })
	if len(all) == 0 {
		return nil, usage("no version has a key of %s: name one with --key", c.Service)
	}
	return all, nil
}

func (c *policyCmd) usesOf(m field.Adapter[any], table, column string) (all []keyUse, err error) {
	for _, n := range m.Box().Versions() {
		v, err := m.Box().Version(n)
		if err != nil {
			return nil, err
		}
		// A record that moves to another tenant keeps its version.
		written := n == m.KeyVersion(column) || c.Role == roleApp && len(m.ContextColumns()) > 0
		shape := func() (contextShape, error) { return shapeOf(m, column, n) }
		if len(c.Pair) > 0 {
			shape = func() (contextShape, error) { return shapeOfPairs(c.Pair), nil }
		}
		keys, isBranch := kmsencrypted.Ability[*branch.Provider](v.Provider)
		switch {
		case len(c.Key) > 0:
			for _, id := range c.Key {
				all = append(all, keyUse{id, table, n, written, shape})
			}
		case isBranch:
			branches, err := c.usesOfBranches(keys)
			if err != nil {
				return nil, err
			}
			all = append(all, branches...)
		case v.Provider == nil:
			return nil, usage("version %d chooses a key for each record: name them with --key", n)
		default:
			for _, id := range strings.Split(infoOf(v).KeyID, " + ") { // of several services
				all = append(all, keyUse{id, table, n, written, shape})
			}
		}
	}
	return all, nil
}

// usesOfBranches lists the keys under branch keys. Only ops makes branches: servers have
// branch.Options.NoCreate.
func (c *policyCmd) usesOfBranches(keys *branch.Provider) (all []keyUse, err error) {
	for _, n := range keys.Box().Versions() {
		v, err := keys.Box().Version(n)
		if err != nil {
			return nil, err
		}
		written := c.Role == roleOps && n == keys.Box().Current()
		shape := func() (contextShape, error) { return shapeOfBranches(storeID(keys)), nil }
		all = append(all, keyUse{infoOf(v).KeyID, "branches", n, written, shape})
	}
	return all, nil
}

// operations are those of the role with a key.
func (c *policyCmd) operations(u keyUse) []string {
	operations := operationsOf[c.Role]
	if u.of == "branches" { // whoever writes under a branch opens its key
		operations = []string{starts, wraps, unwraps, rewraps}
	}
	return slices.DeleteFunc(slices.Clone(operations), func(o string) bool {
		return o == wraps && !u.written || o == rewraps && c.Role != roleOps
	})
}

// printKeys prints the lines of a service whose policies know keys and no contexts.
func (c *policyCmd) printKeys(ctx context.Context, s *Session, lineOf func(key, operation string) (line string, err error)) error {
	uses, err := c.uses(ctx, s)
	if err != nil {
		return err
	}
	var lines []permission
	for _, u := range uses {
		for _, operation := range c.operations(u) {
			line, err := lineOf(u.key, operation)
			if err != nil {
				return err
			}
			if line != "" {
				lines = append(lines, permission{line, []string{operation}})
			}
		}
	}
	if c.Service == "gcp" {
		s.printf("# %s. Not proven: only the syntax is checked. Cloud KMS has no condition on the encryption context.\n", c.Role)
	} else {
		s.printf("# %s. Vault has no condition on the encryption context.\n", c.Role)
	}
	s.printPermissions(lines, "#")
	return nil
}

// vaultPaths are the paths and capabilities of transit.
var vaultPaths = map[string][2]string{starts: {"keys", "read"}, wraps: {"encrypt", "update"}, unwraps: {"decrypt", "update"}, rewraps: {"rewrap", "update"}}

func (c *policyCmd) vault(key, operation string) (string, error) {
	path := vaultPaths[operation]
	return fmt.Sprintf("path %q { capabilities = [%q] }", strings.Trim(c.Mount, "/")+"/"+path[0]+"/"+strings.TrimPrefix(key, "vault/"), path[1]), nil
}

var gcpRoles = map[string]string{starts: "viewer", wraps: "cryptoKeyEncrypter", unwraps: "cryptoKeyDecrypter"} // there is no rewrap

func (c *policyCmd) gcp(key, operation string) (string, error) {
	role, parts := gcpRoles[operation], strings.Split(key, "/")
	if role == "" {
		return "", nil
	}
	if len(parts) != 8 || parts[2] != "locations" || parts[4] != "keyRings" || parts[6] != "cryptoKeys" {
		return "", usage("%q is no key of Google: projects/P/locations/L/keyRings/R/cryptoKeys/K", key)
	}
	member := c.To
	if !strings.Contains(member, ":") {
		member = "serviceAccount:" + member + "@" + parts[1] + ".iam.gserviceaccount.com"
	}
	return fmt.Sprintf("gcloud kms keys add-iam-policy-binding %s --keyring %s --location %s --project %s --member %s --role roles/cloudkms.%s",
		parts[7], parts[5], parts[3], parts[1], member, role), nil
}

// awsPolicy is an IAM policy.
type awsPolicy struct {
	Version   string
	Statement []awsStatement

	named map[string]int // statements by name
}

type awsStatement struct {
	Sid       string
	Effect    string
	Action    string
	Resource  string
	Condition map[string]map[string]any `json:",omitempty"`
}

// awsActions are the actions of an operation, and what its statement is called. A rewrap
// takes two: from every version, to the one that is written.
var awsActions = []struct {
	operation, action, sid string
	written                bool // only for keys that are written
}{
	{starts, "kms:DescribeKey", "Start", false},
	{wraps, "kms:Encrypt", "MakeDataKeys", true},
	{unwraps, "kms:Decrypt", "OpenRecords", false},
	{rewraps, "kms:ReEncryptFrom", "RewrapFrom", false},
	{rewraps, "kms:ReEncryptTo", "RewrapTo", true},
}

func (c *policyCmd) printAWS(ctx context.Context, s *Session) error {
	uses, err := c.uses(ctx, s)
	if err != nil {
		return err
	}
	policy := awsPolicy{Version: "2012-10-17"}
	for _, u := range uses {
		statements, err := c.aws(u)
		if err != nil {
			return err
		}
		for _, statement := range statements {
			policy.add(statement)
		}
	}
	fmt.Fprintf(s.Stderr, "%s: not proven: only the syntax of this policy is checked. Each Sid says what is lost without its statement.\n", s.name)
	return s.printJSON(policy)
}

// add adds a statement unless there is the same, and numbers those of the same name.
func (p *awsPolicy) add(added awsStatement) {
	name := added.Sid
	for _, old := range p.Statement {
		if added.Sid = old.Sid; reflect.DeepEqual(old, added) {
			return
		}
	}
	if p.named == nil {
		p.named = make(map[string]int)
	}
	if p.named[name]++; p.named[name] > 1 {
		name = fmt.Sprintf("%sNo%d", name, p.named[name]) // a name may end in a digit
	}
	added.Sid = name
	p.Statement = append(p.Statement, added)
}

func (c *policyCmd) aws(u keyUse) (statements []awsStatement, err error) {
	if !strings.HasPrefix(u.key, "arn:") || !strings.Contains(u.key, ":key/") {
		return nil, usage("a policy names a key by its ARN, not as %q: give it with --key", u.key)
	}
	shape, err := u.shape()
	if err != nil {
		return nil, err
	}
	for _, a := range awsActions {
		if !slices.Contains(c.operations(u), a.operation) || a.written && !u.written {
			continue
		}
		statement := awsStatement{Sid: a.sid, Effect: "Allow", Action: a.action, Resource: u.key}
		if a.operation != starts {
			statement.Sid += sidOf(u.of)
			statement.Condition = awsCondition(shape)
		}
		statements = append(statements, statement)
	}
	return statements, nil
}

// awsCondition requires the pairs of a context and no others. ForAllValues alone would
// let a request without a context through.
func awsCondition(shape contextShape) map[string]map[string]any {
	if len(shape.names) == 0 {
		return map[string]map[string]any{"Null": {"kms:EncryptionContextKeys": "true"}}
	}
	condition := map[string]map[string]any{"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": shape.names}}
	for _, name := range shape.names {
		operator, value := "Null", "false" // the pair must be there
		if fixed, ok := shape.fixed[name]; ok {
			operator, value = "StringEquals", fixed
		}
		if condition[operator] == nil {
			condition[operator] = make(map[string]any)
		}
		condition[operator]["kms:EncryptionContext:"+name] = value
	}
	return condition
}

// sidOf writes a name in letters and digits, as a Sid must be.
func sidOf(name string) string {
	var sid strings.Builder
	for _, part := range strings.FieldsFunc(name, func(r rune) bool { return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9') }) {
		sid.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return cmp.Or(sid.String(), "Table")
}
