// Package ui serves the page of the command "ui": HTML, CSS and a script, which are
// embedded, and what they show, as JSON.
//
// The types of this file are all that the page can show. None of them has a field for
// a value, a key, an encryption context, or the name of a record or branch.
package ui

import "time"

// Source is where the page gets what it shows. Its functions return at once with what
// is known, and are safe for concurrent use.
type Source struct {
	Name      string // of the program
	Token     bool   // whether a token gives more access
	Runs      func() Section[[]Run]
	Versions  func() Section[Versions]
	Keys      func() Section[Keys]
	Branches  func() Section[[]Store]
	Inventory func() Section[[]Item]
	History   func() Section[[]Past]
	// SetState pauses, resumes or cancels the unfinished run of a table.
	SetState func(table, run, action string) Answer
	// Examine begins an examination of the key services.
	Examine func() Answer
}

// Section is a part of the page.
type Section[T any] struct {
	At      *time.Time `json:"at,omitempty"` // when Data was so; nil if it is not known yet
	Problem string     `json:"problem,omitempty"`
	Data    T          `json:"data"`
}

// Answer says what came of an action.
type Answer struct {
	Status int    `json:"-"` // of HTTP
	Text   string `json:"text"`
}

// Run is a table with its latest run.
type Run struct {
	Table     string     `json:"table"`
	Run       string     `json:"run,omitempty"`
	Kind      string     `json:"kind,omitempty"`
	State     string     `json:"state"`
	Active    bool       `json:"active"`
	Paused    bool       `json:"paused"`
	To        string     `json:"to"`      // version of the run, or those that the program writes
	Current   string     `json:"current"` // versions that the program writes
	Part      bool       `json:"part"`
	Pass      int        `json:"pass"`
	Counted   *time.Time `json:"counted,omitempty"` // when Remaining was so; nil if it is not known
	Remaining int64      `json:"remaining"`
	About     bool       `json:"about"`
	Planned   int64      `json:"planned"`
	Written   int64      `json:"written"`
	Conflicts int64      `json:"conflicts"`
	Failed    int64      `json:"failed"`
	Calls     int64      `json:"calls"`
	Cost      string     `json:"cost,omitempty"`
	Shards    int        `json:"shards"`
	Done      int        `json:"shards_done"`
	Working   int        `json:"working"`
	PerSecond float64    `json:"per_second"`
	Left      string     `json:"left,omitempty"`
	Waiting   string     `json:"waiting,omitempty"`
	Advice    string     `json:"advice,omitempty"` // what to type: commands are in backquotes
	Started   *time.Time `json:"started,omitempty"`
	Ended     *time.Time `json:"ended,omitempty"`
	Verified  *time.Time `json:"verified,omitempty"`
	Whole     Spent      `json:"whole"`  // by the run
	Lately    Spent      `json:"lately"` // by the last of Points
	Points    []Point    `json:"points"`
	Failures  []Failure  `json:"failures"`
	Problem   string     `json:"problem,omitempty"`
}

// Spent is what time was spent on, in seconds.
type Spent struct {
	Read  float64 `json:"read"`
	Keys  float64 `json:"keys"` // key service, and opening and sealing
	Wait  float64 `json:"wait"` // for limits
	Write float64 `json:"write"`
}

// Point is a piece of a run's time. The stages are in seconds a second, of all workers.
type Point struct {
	At        time.Time `json:"at"`
	PerSecond float64   `json:"per_second"`
	Spent
}

// Failure is a kind of failures.
type Failure struct {
	Class   string `json:"class"`
	Records int64  `json:"records"`
	Remedy  string `json:"remedy"` // commands are in backquotes
}

// Versions are those of all tables.
type Versions struct {
	Lines  []Version    `json:"lines"`
	Retire []Retirement `json:"retire"`
	Unseen []string     `json:"unseen"` // what no count shows
}

// Version is a version of a table's keys.
type Version struct {
	Table    string     `json:"table"`
	Version  int        `json:"version"`
	NoKey    bool       `json:"no_key"`
	Current  bool       `json:"current"`
	Format   string     `json:"format"`
	Provider string     `json:"provider"`
	KeyID    string     `json:"key_id"`
	Counted  *time.Time `json:"counted,omitempty"` // when Keys was so; nil if it is not known
	Keys     int64      `json:"keys"`
	About    bool       `json:"about"`
	Problem  string     `json:"problem,omitempty"`
}

// Retirement says whether a version may be retired.
type Retirement struct {
	Version int      `json:"version"`
	May     bool     `json:"may"`
	Waits   bool     `json:"waits"` // until the records are counted
	Needs   []string `json:"needs"`
}

// Keys are those of all versions.
type Keys struct {
	Examining bool       `json:"examining"`
	Examined  *time.Time `json:"examined,omitempty"`
	Keys      []Key      `json:"keys"`
}

// Key is the key of a version.
type Key struct {
	Name    string        `json:"name"`
	Known   bool          `json:"known"` // it was examined
	Healthy bool          `json:"healthy"`
	Found   []Observation `json:"found"`
	Remedy  string        `json:"remedy,omitempty"` // commands are in backquotes
}

// Observation is what an examination found.
type Observation struct {
	Mark   string  `json:"mark"` // works, fails or unknown
	Depth  int     `json:"depth"`
	Text   string  `json:"text"`
	Class  string  `json:"class,omitempty"`  // of an error
	Millis float64 `json:"millis,omitempty"` // of the request
}

// Store is a key store of branches.
type Store struct {
	ID       string `json:"id"`
	Branches int    `json:"branches"`
	More     bool   `json:"more"` // there are more than that
	Erased   int    `json:"erased"`
	Overdue  int    `json:"overdue"`
	Bounds   string `json:"bounds"`
	Problem  string `json:"problem,omitempty"`
}

// Item is a line of the inventory.
type Item struct {
	Table    string `json:"table"`
	Column   string `json:"column"`
	Kind     string `json:"kind"`
	Under    string `json:"under"`
	Form     string `json:"form"`
	Records  string `json:"records"`
	Rotated  string `json:"rotated"`
	Verified string `json:"verified"`
	Leaks    string `json:"leaks"`
}

// Past is an earlier run.
type Past struct {
	Table    string     `json:"table"`
	Started  time.Time  `json:"started"`
	Kind     string     `json:"kind"`
	Target   int        `json:"target"`
	Part     bool       `json:"part"`
	State    string     `json:"state"`
	Written  int64      `json:"written"`
	Failed   int64      `json:"failed"`
	Calls    int64      `json:"calls"`
	Took     string     `json:"took"`
	Verified *time.Time `json:"verified,omitempty"`
}
