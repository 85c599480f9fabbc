package kmsentc_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	kmsentc "github.com/kmsencrypted/kmsencrypted/ent/entc"
)

// The entities of the tests and of the example are as the extension generates them.
// Loading a schema takes a folder beside this file, one at a time.
func TestGenerated(t *testing.T) {
	generated(t, "ent/internal/shop", gen.FeatureUpsert, gen.FeatureModifier, gen.FeatureExecQuery, gen.FeatureLock)
	generated(t, "examples/ent/ent")
}

func generated(t *testing.T, folder string, features ...gen.Feature) {
	t.Helper()
	shop, target := "../../"+folder, t.TempDir()
	config := &gen.Config{Target: target, Package: "github.com/kmsencrypted/kmsencrypted/" + folder, Features: features}
	if err := entc.Generate(shop+"/schema", config, entc.Extensions(kmsentc.Extension{})); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(target, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		files++
		name := strings.TrimPrefix(path, target)
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(shop, name))
		if err != nil {
			return err
		}
		if string(got) != string(want) && name != "/runtime/runtime.go" { // which has the release of ent
			t.Errorf("%s is out of date: go generate ./%s", name, folder)
		}
		return nil
	})
	if err != nil || files < 20 {
		t.Errorf("%d files, %v", files, err)
	}
}

// Mistakes in a schema are found when the code is generated.
func TestMistakes(t *testing.T) {
	for _, schema := range []string{"optional", "zero"} {
		err := entc.Generate("./testdata/"+schema, &gen.Config{Target: t.TempDir(), Package: "example.com/shop"}, entc.Extensions(kmsentc.Extension{}))
		want := map[string]string{"optional": "make it Nillable", "zero": "was not made by"}[schema]
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", schema, err, want)
		}
	}
}
