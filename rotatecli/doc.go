// Package rotatecli is the command line of rotations as a library, for a program
// with its own models:
//
//	func main() { rotatecli.Main(context.Background(), db, customers, users, documents) }
//
// This adds "rotate plan", "rotate run", "rotate status", "versions", "inspect",
// "check", "doctor" and more: run it with --help. The command kmsencrypted offers
// the same for tables described in a file. Use it only if you have no program of
// your own.
//
// # Exit codes
//
//	 0  done
//	 2  done, and some records failed or did not verify
//	 3  paused, or interrupted: the same command goes on
//	 4  stopped because the key service throttles or cannot be reached: later
//	    the same command goes on
//	64  the command line is wrong: nothing was done
//	 1  anything else
//
// # Output
//
// Results go to standard output, progress to standard error: a bar on a terminal,
// otherwise a line every ten seconds. With --json every event is one line of JSON
// on standard output. The output never contains a plaintext, a key or a password, but for the value that
// "open" is asked for.
// Error texts come from databases and key services.
package rotatecli
