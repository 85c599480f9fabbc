// Package bench compares the speed of this module's files with that of other
// libraries and with a limit: AES-256-GCM of the standard library over 16 KiB in
// memory, with nothing read, written or framed. See README.md for how to run it
// and for figures.
//
// It is a module of its own so that nobody else downloads the peers.
package bench
