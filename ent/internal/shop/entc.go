//go:build ignore

package main

import (
	"log"

	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	kmsentc "github.com/kmsencrypted/kmsencrypted/ent/entc"
)

func main() {
	config := &gen.Config{Features: []gen.Feature{gen.FeatureUpsert, gen.FeatureModifier, gen.FeatureExecQuery, gen.FeatureLock}}
	if err := entc.Generate("./schema", config, entc.Extensions(kmsentc.Extension{})); err != nil {
		log.Fatal(err)
	}
}
