// Package e2e holds tests that need several processes and a real server: workers
// of a rotation that are killed, one limit for the calls of all of them, and
// what a job queue costs beside goroutines. It is a module of its own and is
// never published.
//
//	go test ./e2e -v
//	go test ./e2e -run '^$' -bench .
//
// A line that begins with "counted:" says what a test has counted.
package e2e
