// Package rotatecli is the command line of rotations as a library, for a
// program that knows its own models:
//
//	func main() { rotatecli.Main(context.Background(), db, customers, users, documents) }
//
// gives it "rotate plan", "rotate run", "rotate status", "versions", "inspect",
// "check", "doctor" and more: run it with --help. The command kmsencrypted is the
// same over tables that a file describes; it is needed only where there is no
// program of one's own.
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
// Results go to standard output, progress to standard error: a bar on a
// terminal, else a line each ten seconds. With --json every event is one line of
// JSON on standard output. Nothing that is printed holds a plaintext, a key or a
// password; texts of errors come from databases and key services.
package rotatecli
