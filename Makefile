# The targets are lines that anyone can type; .ci/run is all of them and more.
.DEFAULT_GOAL := help
.PHONY: help test race vet lint fmt vectors fips e2e bench fuzz quickstart ci

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "%-11s %s\n", $$1, $$2 }' Makefile

test: ## all tests of the library
	go test ./...

race: ## the same with the race detector
	go test -race ./...

vet: ## go vet
	go vet ./...

lint: vet ## gofmt, go vet and staticcheck
	.ci/run gofmt staticcheck

fmt: ## format the code
	gofmt -w .

vectors: ## what is tested against files of the Ruby gems and of Rails
	.ci/run vectors

fips: ## the native format with approved algorithms only
	.ci/run fips

e2e: ## the nested modules: real servers, peers
	.ci/run nested

bench: ## all benchmarks
	go test -run '^$$' -bench . -benchmem ./...

fuzz: ## every fuzz target for a few seconds
	.ci/run fuzz

quickstart: ## the first program of the README
	go run ./examples/quickstart

ci: ## everything that is checked before a change goes in
	.ci/run
