package rotatecli_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vaultserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// granted is the table of the examples.
type granted struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// resident has a context of its own in version 2.
type resident struct {
	ID     int64            `db:"id"`
	Tenant string           `db:"tenant" kms:"context"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Email  field.Of[string] `db:"email_ciphertext"`
}

// policyOf is what a program with models of a Box prints.
func policyOf(t *testing.T, box *kmsencrypted.Box, code int, words ...string) (stdout, stderr string) {
	t.Helper()
	customers, err := field.NewModel[granted](box, field.Config{Table: "customers"})
	if err != nil {
		t.Fatal(err)
	}
	models := []field.AnyModel{customers}
	if len(box.Versions()) > 1 {
		residents, err := field.NewModel[resident](box, field.Config{Table: "residents", Name: "Resident"})
		if err != nil {
			t.Fatal(err)
		}
		models = append(models, residents)
	}
	var out, errs bytes.Buffer
	p := rotatecli.Program{Name: "ops", Stdout: &out, Stderr: &errs, Open: func(context.Context) (*rotatecli.Database, error) {
		return &rotatecli.Database{Dialect: field.SQLite, Models: models}, nil
	}}
	if got := p.Run(t.Context(), append([]string{"policy"}, words...)); got != code {
		t.Fatalf("policy %q = %d, want %d: %s%s", words, got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

var vaultLine = regexp.MustCompile(`^(path .+) # (.+)$`)

// With the lines of a role everything works at a real server, and without one exactly
// what it names does not.
func TestPolicyVault(t *testing.T) {
	server := vaultserver.Start(t)
	root := server.Client(t, server.Token)
	name, mount := strings.ToLower(rand.Text()[:10]), "policy-"+strings.ToLower(rand.Text()[:10])
	if err := root.Sys().MountWithContext(t.Context(), mount, &api.MountInput{Type: "transit"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Sys().Unmount(mount) })
	if _, err := root.Logical().WriteWithContext(t.Context(), mount+"/keys/"+name, map[string]any{"derived": true}); err != nil {
		t.Fatal(err)
	}
	open := func(client *api.Client) *vault.Provider {
		p, err := vault.New(client, "vault/"+name, vault.Options{Mount: mount})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	// model has two versions of the key, and what opened a data key for it.
	model := func(p kmsencrypted.Provider, current int, seen kmsencrypted.Observer) *field.Model[granted] {
		box, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: {Provider: p}, 2: {Provider: p}}, Observer: seen}.Box()
		if err != nil {
			t.Fatal(err)
		}
		m, err := field.NewModel[granted](box, field.Config{Table: "customers"})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	stored := func() *granted {
		record := granted{ID: 7, Email: field.New(secretEmail)}
		if err := model(open(root), 1, nil).SealNew(t.Context(), &record); err != nil {
			t.Fatal(err)
		}
		return model(open(root), 1, nil).Adapter().Copy(&record)
	}
	capabilities := map[string]func(p *vault.Provider) error{
		"start (Open, Probe)": func(p *vault.Provider) error { return p.Probe(t.Context()) },
		"make data keys": func(p *vault.Provider) error {
			return model(p, 1, nil).SealNew(t.Context(), &granted{ID: 8, Email: field.New(secretEmail)})
		},
		"open records": func(p *vault.Provider) error {
			record := stored()
			fresh := granted{ID: 7}
			if err := errors.Join(fresh.Key.Scan(must2(record.Key.Value())), fresh.Email.Scan(must2(record.Email.Value()))); err != nil {
				return err
			}
			return model(p, 1, nil).Open(t.Context(), &fresh)
		},
		"rewrap inside the service": func(p *vault.Provider) error {
			record, left := stored(), false
			fresh := granted{ID: 7}
			if err := errors.Join(fresh.Key.Scan(must2(record.Key.Value())), fresh.Email.Scan(must2(record.Email.Value()))); err != nil {
				return err
			}
			err := model(p, 2, func(_ context.Context, e kmsencrypted.Event) {
				left = left || e.Op == kmsencrypted.OpUnwrap || e.Err != nil
			}).Rewrap(t.Context(), &fresh)
			if err == nil && left {
				err = errors.New("the data key left the service")
			}
			return err
		},
	}
	roles := map[string][]string{
		"app": {"make data keys", "open records", "start (Open, Probe)"}, "writer": {"make data keys", "start (Open, Probe)"},
		"reader": {"open records", "start (Open, Probe)"},
		"ops":    {"make data keys", "open records", "rewrap inside the service", "start (Open, Probe)"},
	}
	for role, works := range roles {
		t.Run(role, func(t *testing.T) {
			said, _ := policyOf(t, kmstest.Box(t), 0, "vault", "--role", role, "--key", "vault/"+name, "--mount", mount)
			var lines, lost []string
			for line := range strings.Lines(said) {
				if found := vaultLine.FindStringSubmatch(strings.TrimSpace(line)); found != nil {
					lines, lost = append(lines, found[0]), append(lost, found[2])
				}
			}
			allowed := func(lines []string) (can []string) {
				policy := "kms-" + strings.ToLower(rand.Text())
				if err := root.Sys().PutPolicyWithContext(t.Context(), policy, strings.Join(lines, "\n")); err != nil {
					t.Fatal(err)
				}
				defer root.Sys().DeletePolicy(policy)
				token, err := root.Auth().Token().CreateWithContext(t.Context(), &api.TokenCreateRequest{Policies: []string{policy}, NoParent: true})
				if err != nil {
					t.Fatal(err)
				}
				p := open(server.Client(t, token.Auth.ClientToken))
				for name, do := range capabilities {
					switch err := do(p); {
					case err == nil:
						can = append(can, name)
					case !errors.Is(err, kmsencrypted.ErrDenied) && !strings.Contains(err.Error(), "left the service"):
						t.Errorf("%s: %v, want ErrDenied", name, err)
					}
				}
				slices.Sort(can)
				return can
			}
			if got := allowed(lines); !slices.Equal(got, works) {
				t.Errorf("with all lines: %q, want %q", got, works)
			}
			for i, line := range lines {
				want := slices.DeleteFunc(slices.Clone(works), func(name string) bool { return name == lost[i] })
				if got := allowed(slices.Delete(slices.Clone(lines), i, i+1)); !slices.Equal(got, want) {
					t.Errorf("without %s: %q, want %q", line, got, want)
				}
			}
		})
	}
}

func must2[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

const (
	oldARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	newARN = "arn:aws:kms:eu-central-1:111122223333:key/0987dcba-09fe-87dc-65ba-ab0987654321"
)

// named is a provider that has nothing but a name.
func named(id string) kmsencrypted.Provider {
	return rotatecli.OrAbsent(id, nil, errors.New("not asked"))
}

// twoKeys has the default context in version 1 and one of its own in version 2.
func twoKeys(t *testing.T, first, second string) *kmsencrypted.Box {
	t.Helper()
	box, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{
		1: {Provider: named(first)},
		2: {Provider: named(second), Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			c := kmsencrypted.Context{"app": "clinic", "id": s.ID[0]}
			if p, ok := s.Record.(*resident); ok {
				c["tenant"] = p.Tenant
			}
			return c, nil
		}},
	}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// iamPolicy is what IAM accepts of a policy: an unknown field is an error.
type iamPolicy struct {
	Version   string
	Statement []struct {
		Sid, Effect, Action, Resource string
		Condition                     map[string]map[string]any
	}
}

func parseIAM(t *testing.T, text string) (p iamPolicy) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return p
}

// The grammar of IAM: version, unique Sids of letters and digits, known actions, operators
// and condition keys of KMS. Each role has the actions of its operations, under the
// context of each model and version.
func TestPolicyAWS(t *testing.T) {
	t.Parallel()
	box := twoKeys(t, oldARN, newARN)
	wants := map[string][]string{
		"app": {
			"kms:Decrypt 1234abcd customers", "kms:Decrypt 1234abcd Resident", "kms:Decrypt 0987dcba clinic", "kms:Decrypt 0987dcba clinic tenant",
			"kms:Encrypt 1234abcd Resident", "kms:Encrypt 0987dcba clinic", "kms:Encrypt 0987dcba clinic tenant", "kms:DescribeKey 1234abcd", "kms:DescribeKey 0987dcba",
		},
		"writer": {"kms:Encrypt 0987dcba clinic", "kms:Encrypt 0987dcba clinic tenant", "kms:DescribeKey 1234abcd", "kms:DescribeKey 0987dcba"},
		"reader": {
			"kms:Decrypt 1234abcd customers", "kms:Decrypt 1234abcd Resident", "kms:Decrypt 0987dcba clinic", "kms:Decrypt 0987dcba clinic tenant",
			"kms:DescribeKey 1234abcd", "kms:DescribeKey 0987dcba",
		},
		"ops": {
			"kms:Decrypt 1234abcd customers", "kms:Decrypt 1234abcd Resident", "kms:Decrypt 0987dcba clinic", "kms:Decrypt 0987dcba clinic tenant",
			"kms:ReEncryptFrom 1234abcd customers", "kms:ReEncryptFrom 1234abcd Resident", "kms:ReEncryptFrom 0987dcba clinic", "kms:ReEncryptFrom 0987dcba clinic tenant",
			"kms:Encrypt 0987dcba clinic", "kms:Encrypt 0987dcba clinic tenant", "kms:ReEncryptTo 0987dcba clinic", "kms:ReEncryptTo 0987dcba clinic tenant",
			"kms:DescribeKey 1234abcd", "kms:DescribeKey 0987dcba",
		},
	}
	for role, want := range wants {
		text, remark := policyOf(t, box, 0, "aws", "--role", role)
		if !strings.Contains(remark, "not proven") {
			t.Errorf("policy aws does not say that it is not proven: %s", remark)
		}
		policy := parseIAM(t, text)
		var got []string
		sids := make(map[string]bool)
		for _, s := range policy.Statement {
			if !regexp.MustCompile("^[A-Za-z0-9]+$").MatchString(s.Sid) || sids[s.Sid] || s.Effect != "Allow" {
				t.Errorf("statement %+v: its Sid must be of letters and digits, and unique", s)
			}
			sids[s.Sid] = true
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", s.Action, s.Resource[strings.LastIndex(s.Resource, "/")+1:][:8], pinned(t, s.Condition))))
			if (s.Condition == nil) != (s.Action == "kms:DescribeKey") {
				t.Errorf("statement %s has the condition %v", s.Sid, s.Condition)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if policy.Version != "2012-10-17" || !slices.Equal(got, want) {
			t.Errorf("%s: %s\n%q, want\n%q", role, policy.Version, got, want)
		}
	}
	policyOf(t, twoKeys(t, "alias/customers", newARN), rotatecli.ExitUsage, "aws", "--role", "app")
	policyOf(t, twoKeys(t, "vault/customers", "vault/other"), rotatecli.ExitUsage, "aws", "--role", "app")
}

// pinned returns the value of the pair that is the same for all records, and "tenant" if
// that pair is required. It checks the operators.
func pinned(t *testing.T, condition map[string]map[string]any) (text string) {
	t.Helper()
	for operator, keys := range condition {
		for key, value := range keys {
			switch {
			case operator == "ForAllValues:StringEquals" && key == "kms:EncryptionContextKeys":
			case operator == "StringEquals" && strings.HasPrefix(key, "kms:EncryptionContext:"):
				text = strings.TrimSpace(value.(string) + " " + text)
			case operator == "Null" && strings.HasPrefix(key, "kms:EncryptionContext:") && value == "false":
				if key == "kms:EncryptionContext:tenant" {
					text = strings.TrimSpace(text + " tenant")
				}
			default:
				t.Errorf("condition %s %s = %v", operator, key, value)
			}
		}
	}
	return text
}

// Google's are commands with the flags of gcloud, on the key and not on the project.
func TestPolicyGCP(t *testing.T) {
	t.Parallel()
	key := func(name string) string {
		return "projects/acme-prod/locations/europe-west3/keyRings/app/cryptoKeys/" + name
	}
	line := regexp.MustCompile(`^gcloud kms keys add-iam-policy-binding (old|new) --keyring app --location europe-west3 --project acme-prod --member (\S+) --role roles/cloudkms\.(\w+) # (.+)$`)
	for role, want := range map[string][]string{
		"app":    {"old viewer", "old cryptoKeyDecrypter", "old cryptoKeyEncrypter", "new viewer", "new cryptoKeyEncrypter", "new cryptoKeyDecrypter"},
		"writer": {"old viewer", "new viewer", "new cryptoKeyEncrypter"},
		"reader": {"old viewer", "old cryptoKeyDecrypter", "new viewer", "new cryptoKeyDecrypter"},
		"ops":    {"old viewer", "old cryptoKeyDecrypter", "new viewer", "new cryptoKeyEncrypter", "new cryptoKeyDecrypter"},
	} {
		said, _ := policyOf(t, twoKeys(t, key("old"), key("new")), 0, "gcp", "--role", role)
		var got []string
		for text := range strings.Lines(said) {
			found := line.FindStringSubmatch(strings.TrimSpace(text))
			switch {
			case found != nil && found[2] == "serviceAccount:"+role+"@acme-prod.iam.gserviceaccount.com":
				got = append(got, found[1]+" "+found[3])
			case !strings.HasPrefix(text, "# ") || !strings.Contains(text, "Not proven"):
				t.Errorf("%s: %s", role, text)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", role, got, want)
		}
	}
}

// The pages show what the command prints.
func TestPolicyPages(t *testing.T) {
	t.Parallel()
	for page, blocks := range map[string]struct {
		kind string
		want []string
	}{
		"aws.md":   {"json", []string{"writer", "reader", "ops"}},
		"vault.md": {"hcl", []string{"writer", "reader", "ops"}},
	} {
		text, err := os.ReadFile("../docs/providers/" + page)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile("(?s)```"+blocks.kind+"\n(.*?)```").FindAllStringSubmatch(string(text), -1)
		if len(found) < len(blocks.want) {
			t.Fatalf("%d blocks in %s, want those of %q", len(found), page, blocks.want)
		}
		key := map[string]string{"aws.md": oldARN, "vault.md": "vault/customers"}[page]
		for i, role := range blocks.want {
			want, _ := policyOf(t, kmstest.Box(t), 0, strings.TrimSuffix(page, ".md"), "--role", role, "--key", key)
			if got := found[i][1]; got != want {
				t.Errorf("%s shows for %s\n%s\nand the command prints\n%s", page, role, got, want)
			}
		}
	}
}
