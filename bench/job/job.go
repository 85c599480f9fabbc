// Package job describes what is compared: the same job done by this library, by the
// least work that gives its output, and by other libraries.
package job

// Topic is a group of jobs that are drawn in one picture.
type Topic struct {
	Name  string // of the picture's file
	Title string
	Jobs  []Job
}

// Job is something to do, and who does it.
type Job struct {
	Name string
	Ours func()
	// Limit is the least work that gives the same output.
	Limit func()
	Peers []Peer
}

// Peer is another library.
type Peer struct {
	Name   string
	Way    string // of using it; empty if there is one only
	Module string // its path; the report adds the version
	Run    func()
	// Otherwise says what it does in another way than this library, which is why
	// one of the two is faster.
	Otherwise string
}

// Must panics if there is an error. What is measured works, as the tests of each
// package show.
func Must(err error) {
	if err != nil {
		panic(err)
	}
}

// OrPanic returns the value, or panics if there is an error.
func OrPanic[T any](value T, err error) T {
	Must(err)
	return value
}
