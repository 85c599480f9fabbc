//go:build !race

// Package race reports whether the race detector is on. Tests that measure or
// kill must allow for its memory and time.
package race

// Detector reports whether the program was built with -race.
const Detector = false
