package vet

import (
	"go/ast"
	"go/types"
	"reflect"
)

// indexKeys finds models with blind indexes whose configuration has no key for them.
func indexKeys(c *checker) {
	c.newModels(func(call *ast.CallExpr, row types.Type, config *ast.CompositeLit) {
		if config == nil || element(config, "Indexes") != nil || len(config.Elts) > 0 && !keyed(config) {
			return
		}
		if key := element(config, "IndexKey"); key != nil {
			zero, ok := ast.Unparen(key).(*ast.CompositeLit)
			if !ok || len(zero.Elts) > 0 {
				return
			}
		}
		index := ""
		structFields(row, func(v *types.Var, tag reflect.StructTag) {
			if index == "" && isType(v.Type(), fieldPath, "Index") && tag.Get("kms") != "" {
				index = v.Name()
			}
		})
		if index != "" {
			c.report(call, "the model has the blind index %s and no key for it: set Config.IndexKey, for example by blindindex.MasterKeyFromEnv", index)
		}
	})
}

func keyed(l *ast.CompositeLit) bool {
	_, ok := l.Elts[0].(*ast.KeyValueExpr)
	return ok
}
