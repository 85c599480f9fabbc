// Package operator tests the command line of rotations: it runs random programs of an
// operator and of an application on real databases, and compares what the command line
// says and what a fresh process reads with what a plain map says.
//
// A program is a list of steps: the application inserts, updates, empties, moves and
// deletes records of several tenants, also in the middle of a run; keys are denied and
// throttled; the operator deploys another version and types rotate run in all its forms,
// pause, resume, cancel, verify, heal, clear-journal and versions retire; commands are
// interrupted, and processes die. Beside the table is one of a Ruby application.
//
// Whatever is done, every record that was acknowledged has to be readable, and
// "versions retire" must not say yes while the version is needed.
//
// A program that fails is made shorter until no step can be left out, and printed. To
// run it again, with the seed and the database that the failure names:
//
//	go test ./internal/testing/operator -run Operator/SQLite -seed 17 -programs 1 -v
package operator
