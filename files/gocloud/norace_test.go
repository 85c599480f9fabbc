//go:build !race

package gocloud

const raceDetector = false
