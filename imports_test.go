package kmsencrypted_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The core stays light: it reaches the standard library, golang.org/x/crypto
// (with what that needs) and this module only. A provider may bring its SDK, and
// nothing of another provider.
func TestImports(t *testing.T) {
	t.Parallel()
	const (
		module  = "github.com/kmsencrypted/kmsencrypted"
		support = module + "/internal/testing/"
	)
	for _, pkg := range []string{"", "/field", "/lockbox", "/attrencrypted", "/activerecord", "/blindindex", "/files", "/files/attach", "/files/s3ec", "/files/direct", "/files/serve", "/files/thumbnail", "/providers/testkey", "/providers/local", "/providers/branch", "/kmstest"} {
		for _, dep := range dependencies(t, module+pkg) {
			first, _, _ := strings.Cut(dep, "/")
			standard := !strings.Contains(first, ".")
			if !standard && !strings.HasPrefix(dep, "golang.org/x/crypto/") && !strings.HasPrefix(dep, "golang.org/x/sys/") && !strings.HasPrefix(dep, module) {
				t.Errorf("%s imports %s", module+pkg, dep)
			}
		}
	}
	providers := []string{"aws", "azure", "gcp", "vault", "local", "testkey", "multi", "guard", "branch", "pkcs11"}
	for _, provider := range providers {
		for _, dep := range dependencies(t, module+"/providers/"+provider) {
			sibling, ok := strings.CutPrefix(dep, module+"/providers/")
			if ok && sibling != provider && sibling != "intercept" { // which is no provider
				t.Errorf("provider %s imports provider %s", provider, sibling)
			}
		}
	}
	// What supports tests reaches nothing that users build.
	for _, imports := range list(t, "{{.ImportPath}} {{join .Imports \" \"}}", "./...") {
		importer, imported, _ := strings.Cut(imports, " ")
		if !strings.HasPrefix(importer, support) && strings.Contains(imported, support) {
			t.Errorf("%s imports a package below %s, which are for tests", importer, support)
		}
	}
	// Only package kment and the programs that use it build ent.
	for _, imports := range list(t, "{{.ImportPath}} {{join .Imports \" \"}}", "./...") {
		importer, imported, _ := strings.Cut(imports, " ")
		own := strings.HasPrefix(importer, module+"/ent") || strings.HasPrefix(importer, module+"/examples/ent")
		if !own && (strings.Contains(imported, "entgo.io/") || strings.Contains(imported, module+"/ent")) {
			t.Errorf("%s imports ent or package kment", importer)
		}
	}
	// The arrows point to the root.
	for _, dep := range dependencies(t, module) {
		if strings.HasPrefix(dep, module+"/") && !strings.HasPrefix(dep, module+"/internal/") {
			t.Errorf("the root package imports %s", dep)
		}
	}
}

// dependencies is empty for a package that does not exist.
func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	return list(t, "{{.ImportPath}}", "-deps", "-e", pkg)
}

func list(t *testing.T, format string, args ...string) (lines []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list", "-f", format}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("go list %q: %v\n%s", args, err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
