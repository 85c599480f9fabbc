//go:build ignore

package main

import (
	"log"

	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	kmsentc "github.com/kmsencrypted/kmsencrypted/ent/entc"
)

func main() {
	if err := entc.Generate("./schema", &gen.Config{}, entc.Extensions(kmsentc.Extension{})); err != nil {
		log.Fatal(err)
	}
}
