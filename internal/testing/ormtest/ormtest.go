// Package ormtest is one suite for all adapters of database libraries: what every one
// of them must do, and what none may let through. Only tests import it.
//
//	func TestSuitePostgres(t *testing.T) { ormtest.Run(t, ormtest.Postgres, open) }
//
//	func open(t testing.TB, e *ormtest.Env) ormtest.Library {
//		return ormtest.Library{DB: …, Forms: …, Absent: …}
//	}
//
// The suite knows records only through [DB] and [Record], so a library with generated
// types can pass it too. It compares what the adapter did with what another program
// reads from the same table, through package sqlx with a model of its own. Nothing
// plain may reach the database ([kmstest.Canary]), an error or the library's log.
package ormtest

import (
	"context"
	"testing"
)

// Library is an adapter under test, with a handle of its database.
type Library struct {
	DB DB
	// Forms are the ways of the library around its records.
	Forms []Form
	// Absent says why the library has no form for a path.
	Absent map[Path]string
}

// Open opens the library under test on the database of a test. It is called for each
// test; what it opens is closed when the test ends.
type Open func(t testing.TB, e *Env) Library

// DB is a database or a transaction.
type DB interface {
	// New makes a record that is not stored. With the id 0 the database assigns it.
	New(id int64, v Values) Record
	Insert(ctx context.Context, rows ...Record) error
	// Find reads and opens the record with an id. Another error than that of a record
	// that does not open comes without a Record.
	Find(ctx context.Context, id int64) (Record, error)
	// FindOnly reads these columns of a record, of which some are encrypted.
	FindOnly(ctx context.Context, id int64, columns ...string) (Record, error)
	// All reads and opens all records with one query, in the order of their ids.
	All(ctx context.Context) ([]Record, error)
	// Lookup finds records by the blind index of Email, or by the deterministic column
	// Nickname, in the order of their ids.
	Lookup(ctx context.Context, field, value string) ([]Record, error)
	// Update writes a record: the encrypted columns that changed, and its plain ones.
	Update(ctx context.Context, row Record) error
	// UpdateOnly writes these plain columns of a record.
	UpdateOnly(ctx context.Context, row Record, columns ...string) error
	// Rename sets the column name of a row that was not read, in the way of the library.
	Rename(ctx context.Context, id int64, name string) error
	Delete(ctx context.Context, row Record) error
	// Transaction commits if f returns nil.
	Transaction(ctx context.Context, f func(DB) error) error
}

// Record is a record of the table, as a program holds it.
type Record interface {
	ID() int64
	// Values returns the opened values, or the error of a field that is closed.
	Values() (Values, error)
	SetTenant(string)
	SetName(string)
	SetNote(string)
	SetEmail(*string) // nil is NULL
	SetPhone(*string)
	SetNickname(*string)
	// Entity is the struct, which tests print.
	Entity() any
}

// Values are what a record holds. The columns are tenant_id, name, note,
// email_ciphertext, phone_ciphertext and nickname.
type Values struct {
	Tenant, Name, Note     string
	Email, Phone, Nickname *string // nil is NULL
}

// A Path is one on which plaintext has left libraries, or ciphertext was lost.
type Path string

// The fourteen paths. The suite itself looks at those that are the same for all:
// SealedTwice, EmptyModel, Printed, Logged and InErrors.
const (
	UpdateByMap     Path = "an update by a map"
	UpdateOfColumn  Path = "an update of a column"
	UpdateWithout   Path = "an update of a column without hooks"
	CreateByMap     Path = "an insert of a map"
	UpsertAssigns   Path = "the assignments of an upsert"
	TableByName     Path = "a table by its name"
	Exec            Path = "a statement in SQL"
	EmptyModel      Path = "a hook on an empty model"
	SealedTwice     Path = "sealing twice"
	CiphertextAsRow Path = "reading a ciphertext as text"
	NamedMap        Path = "a map of names, or Set"
	Printed         Path = "JSON and %+v"
	Logged          Path = "the log of the library"
	InErrors        Path = "the errors of the driver"
)

// Condition is no path on which plaintext is stored: it is compared with a column.
const Condition Path = "a condition"

// offered are the paths for which a library has forms, or a reason why not.
var offered = []Path{UpdateByMap, UpdateOfColumn, UpdateWithout, CreateByMap, UpsertAssigns, TableByName, Exec, CiphertextAsRow, NamedMap}

// Form is one way around the records.
type Form struct {
	Path Path
	Name string
	// Do tries it with a plaintext, on the row of a record that was read. It must
	// return an error and change nothing. After Do the record is dropped.
	Do func(ctx context.Context, row Record, plaintext string) error
	// Wall says that the library lets it through, and the constraint of the table is
	// what refuses it. The plaintext is one that the canary does not know.
	Wall bool
	// Seals says that the library does what is meant: it seals the plaintext as the
	// record's Email.
	Seals bool
	// Read, in place of Do, reads the column email_ciphertext into something else than
	// the record. The result may be an error, or hold the ciphertext.
	Read func(ctx context.Context, id int64) (any, error)
}

// Run runs the suite on one server.
func Run(t *testing.T, s Server, open Open) {
	e := newEnv(t, s)
	for _, c := range suite {
		t.Run(c.name, func(t *testing.T) {
			c.test(t, e.begin(t, open))
		})
	}
}

var suite = []struct {
	name string
	test func(*testing.T, *work)
}{
	{"Insert", insert},
	{"InsertMany", insertMany},
	{"InsertAllOrNone", insertAllOrNone},
	{"NullAndBlank", nullAndBlank},
	{"PartialRead", partialRead},
	{"DamagedRow", damagedRow},
	{"Lookup", lookup},
	{"RailsColumn", railsColumn},
	{"Bulk", bulk},
	{"UpdateWritesWhatChanged", updateWritesWhatChanged},
	{"UpdateOnly", updateOnly},
	{"UpdateOfARowThatIsGone", updateGone},
	{"SealedTwice", sealedTwice},
	{"EmptyModel", emptyModel},
	{"TwoWriters", twoWriters},
	{"Rewrapped", rewrapped},
	{"Rekeyed", rekeyed},
	{"FirstKeys", firstKeys},
	{"SeveralKeys", severalKeys},
	{"Move", move},
	{"MoveBesideOthers", moveBesideOthers},
	{"Rollback", rollback},
	{"RetryInsert", retryInsert},
	{"RetryUpdate", retryUpdate},
	{"KeyServiceFails", keyServiceFails},
	{"Forms", forms},
	{"Printed", printed},
	{"InErrors", inErrors},
	{"Writers", writers},
	{"Programs", programs},
}
