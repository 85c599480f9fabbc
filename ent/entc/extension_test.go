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

// The entities of the tests are as the extension generates them.
func TestGenerated(t *testing.T) {
	t.Parallel()
	const shop = "../internal/shop"
	target := t.TempDir()
	config := &gen.Config{
		Target: target, Package: "github.com/kmsencrypted/kmsencrypted/ent/internal/shop",
		Features: []gen.Feature{gen.FeatureUpsert, gen.FeatureModifier, gen.FeatureExecQuery, gen.FeatureLock},
	}
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
			t.Errorf("%s is out of date: go generate ./ent/internal/shop", name)
		}
		return nil
	})
	if err != nil || files < 30 {
		t.Errorf("%d files, %v", files, err)
	}
}

// Mistakes in a schema are found when the code is generated.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"optional", "zero"} {
		err := entc.Generate("./testdata/"+schema, &gen.Config{Target: t.TempDir(), Package: "example.com/shop"}, entc.Extensions(kmsentc.Extension{}))
		want := map[string]string{"optional": "make it Nillable", "zero": "was not made by"}[schema]
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", schema, err, want)
		}
	}
}
