//go:build race

package race

// Detector says whether the program was built with -race.
const Detector = true
