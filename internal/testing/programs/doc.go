// Package programs tests that no acknowledged value is lost: it runs random
// programs of writes through kmssqlx and kmsgorm on real databases, and compares
// what a fresh process reads with what a plain map says.
//
// A program is a list of steps of two or three processes that take turns: two
// releases of a model, one with a column that the other does not know, servers
// that may only encrypt, inserts and updates, retries after a rollback, moves
// between tenants, rotations. A step either returns an error or is acknowledged,
// and what was acknowledged and committed has to be readable in the end.
//
// A program that fails is made shorter until no step can be left out, and printed.
// To run it again, with the seed and the database that the failure names:
//
//	go test ./internal/testing/programs -run Programs/SQLite -seed 17 -programs 1 -v
package programs
