package rotation_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
	_ "modernc.org/sqlite"
)

// patient is a record with one encrypted column.
type patient struct {
	ID   int64            `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key"`
	Name field.Of[string] `db:"name_ciphertext"`
}

// fivePatients makes a table of five records at version 1, and a rotator that moves
// them to version 2. A program would list another key as version 2.
func fivePatients(ctx context.Context) (rotator *rotation.Rotator, closeAll func()) {
	_, rotator, closeAll = fivePatientsOf(ctx, rotation.Rewrap)
	return rotator, closeAll
}

// fivePatientsOf also returns the database, for a rotation of some kind.
func fivePatientsOf(ctx context.Context, kind rotation.Kind) (db *sql.DB, rotator *rotation.Rotator, closeAll func()) {
	dir, err := os.MkdirTemp("", "example")
	check(err)
	db, err = sql.Open("sqlite", filepath.Join(dir, "clinic.sqlite3"))
	check(err)
	_, err = db.ExecContext(ctx, "CREATE TABLE patients (id integer PRIMARY KEY, encrypted_kms_key text, name_ciphertext text)")
	check(err)

	_, patients := patientsAt(1)
	for id := range int64(5) {
		p := patient{ID: id + 1, Name: field.New("Ada")}
		check(patients.Seal(ctx, &p))
		_, err = db.ExecContext(ctx, "INSERT INTO patients VALUES (?, ?, ?)", p.ID, p.Key, p.Name)
		check(err)
	}

	box, patients := patientsAt(2)
	store, err := sqlstore.New(ctx, db, field.SQLite, patients, sqlstore.Options{})
	check(err)
	check(store.CreateTables(ctx))
	rotator, err = rotation.New(box, store, rotation.Options{Kind: kind, WritersAreOurs: true, Workers: 1})
	check(err)
	return db, rotator, func() {
		db.Close()
		os.RemoveAll(dir)
	}
}

// patientsAt returns the Box and the model of a program that writes a version.
func patientsAt(version int) (*kmsencrypted.Box, *field.Model[patient]) {
	box, err := kmsencrypted.Config{Current: version, Versions: map[int]kmsencrypted.Version{
		1: {Provider: testkey.New()},
		2: {Provider: testkey.New()},
	}}.Box()
	check(err)
	patients, err := field.NewModel[patient](box, field.Config{Table: "patients"})
	check(err)
	return box, patients
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Plan counts what a run would do. It writes nothing.
func ExampleRotator_Plan() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()

	plan, err := rotator.Plan(ctx)
	check(err)
	fmt.Println(plan.Kind, "of", plan.Table, "to version", plan.Target)
	fmt.Println(plan.Records, "records,", plan.Keys, "keys, at most", plan.Calls, "calls")
	// Output:
	// rewrap of patients to version 2
	// 5 records, 5 keys, at most 15 calls
}

func ExampleRotator_Run() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()

	for range 2 { // the second run finds nothing more to move
		result, err := rotator.Run(ctx)
		check(err)
		fmt.Println(result.Written, "written,", result.Failed, "failed, done:", result.Done)
	}
	// Output:
	// 5 written, 0 failed, done: true
	// 0 written, 0 failed, done: true
}

// Verify opens every record, and counts the versions that the table holds.
func ExampleRotator_Verify() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()

	before, err := rotator.Verify(ctx, rotation.VerifyOptions{})
	check(err)
	fmt.Println(before.Opened, "opened, all at version 2:", before.Clean(2))
	_, err = rotator.Run(ctx)
	check(err)
	after, err := rotator.Verify(ctx, rotation.VerifyOptions{})
	check(err)
	fmt.Println(after.Opened, "opened, all at version 2:", after.Clean(2))
	// Output:
	// 5 opened, all at version 2: false
	// 5 opened, all at version 2: true
}

// Version 1 can be retired once no record is at it, a noted verification was clean,
// and the journal keeps no key at it. Retirable returns the reasons against it.
func ExampleRotator_Retirable() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()

	ask := func() {
		retirement, err := rotator.Retirable(ctx, 1)
		check(err)
		fmt.Println(retirement.Err())
	}
	ask()
	_, err := rotator.Run(ctx)
	check(err)
	ask()
	_, err = rotator.Verify(ctx, rotation.VerifyOptions{Note: true})
	check(err)
	ask()
	_, err = rotator.ClearJournal(ctx, 0)
	check(err)
	ask() // then set MinVersion to 2
	// Output:
	// version is still needed: version 1: 5 key columns of patients are at it
	// version is still needed: version 1: no verification of patients has been clean since its last rotation
	// version is still needed: version 1: the journal of patients has 5 keys at it: clear it first
	// <nil>
}

// Pause stops the run in every process that works on the table. It stays paused,
// after a restart too, until Resume.
func ExampleRotator_Pause() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()

	_, err := rotator.Begin(ctx)
	check(err)
	check(rotator.Pause(ctx)) // from any process
	_, err = rotator.Run(ctx)
	fmt.Println("paused:", errors.Is(err, rotation.ErrPaused))

	check(rotator.Resume(ctx))
	result, err := rotator.Run(ctx)
	check(err)
	fmt.Println("done:", result.Done)
	// Output:
	// paused: true
	// done: true
}

func ExampleRotator_Cost() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()

	cost, err := rotator.Cost(ctx, rotation.Prices{Currency: "USD", PerCall: 0.000003, CallsPerSecond: 10})
	check(err)
	fmt.Printf("%d requests, %.6f %s, %v\n", cost.Calls, cost.Price, cost.Currency, cost.Duration)
	// Output:
	// 15 requests, 0.000045 USD, 1.5s
}

// Work moves records for a limited time, so that a job queue can share a run among
// its workers. It is called again until Next is NextNothing.
func ExampleRotator_Work() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()

	run, err := rotator.Begin(ctx)
	check(err)
	for next := rotation.NextSlice; next != rotation.NextNothing; {
		slice, err := rotator.Work(ctx, run.ID, rotation.AnyShard, time.Minute)
		check(err)
		next = slice.Next
	}
	status, _, err := rotator.Status(ctx)
	check(err)
	fmt.Println(status.State, status.Written, "written")
	// Output: done 5 written
}

// Begin registers the run for every process that works on the table. It moves
// nothing yet, and returns the unfinished run if there is one.
func ExampleRotator_Begin() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()

	first, err := rotator.Begin(ctx)
	check(err)
	second, err := rotator.Begin(ctx)
	check(err)
	fmt.Println(first.State, first.Written, "written, same run:", first.ID == second.ID)
	// Output: active 0 written, same run: true
}

// Cancel ends a run for good. History still shows it.
func ExampleRotator_Cancel() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()

	_, err := rotator.Begin(ctx)
	check(err)
	check(rotator.Cancel(ctx))
	runs, err := rotator.History(ctx, 0)
	check(err)
	fmt.Println(len(runs), runs[0].State)
	// Output: 1 canceled
}

// Report counts the table: what is left, and at which versions the records are.
func ExampleRotator_Report() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()

	ask := func() {
		report, err := rotator.Report(ctx)
		check(err)
		for _, v := range report.Versions {
			fmt.Println(v.Rows, "at version", v.Version)
		}
		fmt.Println(report.Records, "left")
	}
	ask()
	_, err := rotator.Run(ctx)
	check(err)
	ask()
	// Output:
	// 5 at version 1
	// 5 left
	// 5 at version 2
	// 0 left
}

// History lists the runs of the table, the newest first. Status is its first entry.
func ExampleRotator_History() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()

	for range 2 {
		_, err := rotator.Run(ctx)
		check(err)
	}
	runs, err := rotator.History(ctx, 10)
	check(err)
	for _, run := range runs {
		fmt.Println(run.State, run.Written, "written")
	}
	// Output:
	// done 0 written
	// done 5 written
}

// ListPrices has the usual prices of a provider. A key in a file costs nothing.
func ExampleListPrices() {
	aws := rotation.ListPrices("aws")
	fmt.Println(aws.PerCall > 0, aws.Currency)
	fmt.Println(rotation.ListPrices("local").PerCall)
	// Output:
	// true USD
	// 0
}

// A limiter keeps a rotation below the quota of the key service. SetRate changes its
// rate while the rotation runs.
func ExampleNewLimiter() {
	calls := rotation.NewLimiter(100) // for rotation.Options.Calls
	check(calls.Wait(context.Background(), 1))
	calls.SetRate(50)
	fmt.Println(calls.Rate(), "calls a second")
	// Output: 50 calls a second
}

// A rotation with this check waits while the file exists.
func ExampleFileCheck() {
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	flag := filepath.Join(dir, "pause-rotation")
	paused := rotation.FileCheck(flag) // for rotation.Options.Checks

	ctx := context.Background()
	ask := func() {
		reason, err := paused(ctx)
		check(err)
		fmt.Println("waits:", reason != "")
	}
	ask()
	check(os.WriteFile(flag, nil, 0o600))
	ask()
	// Output:
	// waits: false
	// waits: true
}
