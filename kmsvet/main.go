// Command kmsvet finds mistakes in programs that encrypt columns with
// github.com/kmsencrypted/kmsencrypted: a plaintext in a log, an UPDATE that loses a
// ciphertext, personal data that was left plain. It runs under go vet:
//
//	go install github.com/kmsencrypted/kmsencrypted/kmsvet@latest
//	go vet -vettool=$(which kmsvet) ./...
//
// Package vet says what it finds and what it cannot see.
package main

import (
	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/kmsencrypted/kmsencrypted/kmsvet/vet"
)

func main() { unitchecker.Main(vet.Analyzers...) }
