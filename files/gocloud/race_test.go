//go:build race

package gocloud

const raceDetector = true
