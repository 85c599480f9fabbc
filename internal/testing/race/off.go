//go:build !race

// Package race knows whether the race detector is on, whose own memory and time
// tests that measure or kill have to allow for.
package race

// Detector says whether the program was built with -race.
const Detector = false
