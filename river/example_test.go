package kmsriver_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	kmsriver "github.com/kmsencrypted/kmsencrypted/river"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// patient is a record with one encrypted column.
type patient struct {
	ID   int64            `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key"`
	Name field.Of[string] `db:"name_ciphertext"`
}

// patientsAt returns the Box and the model of a program that writes a version. A
// program would list another key as version 2.
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

// fivePatients makes a table of five records at version 1, and a Rotator that moves
// them to version 2.
func fivePatients(ctx context.Context) (rotator *rotation.Rotator, closeAll func()) {
	dir, err := os.MkdirTemp("", "example")
	check(err)
	db, err := sql.Open("sqlite", filepath.Join(dir, "clinic.sqlite3"))
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
	rotator, err = rotation.New(box, store, rotation.Options{Shards: 1})
	check(err)
	return rotator, func() {
		db.Close()
		os.RemoveAll(dir)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// inserted stands for a *river.Client, which needs a PostgreSQL server: it keeps
// the jobs that Start inserts.
type inserted []kmsriver.Job

func (i *inserted) InsertMany(_ context.Context, params []river.InsertManyParams) ([]*rivertype.JobInsertResult, error) {
	for _, p := range params {
		*i = append(*i, p.Args.(kmsriver.Job))
	}
	return nil, nil
}

// Start begins a rotation and inserts its jobs. Nothing is rotated yet.
func ExampleStart() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()

	client := new(inserted) // river.NewClient(riverpgxv5.New(pool), …)
	status, err := kmsriver.Start(ctx, client, rotator)
	check(err)
	fmt.Println(status.State, status.Written, "written,", len(*client), "job for", (*client)[0].Table)
	// Output: active 0 written, 1 job for patients
}

// River calls Work for each job, in any process that has the Worker.
func ExampleWorker_Work() {
	ctx := context.Background()
	rotator, closeAll := fivePatients(ctx)
	defer closeAll()
	client := new(inserted)
	_, err := kmsriver.Start(ctx, client, rotator)
	check(err)

	worker, err := kmsriver.NewWorker(rotator)
	check(err)
	for _, job := range *client {
		check(worker.Work(ctx, &river.Job[kmsriver.Job]{Args: job}))
	}
	status, _, err := rotator.Status(ctx)
	check(err)
	fmt.Println(status.State, status.Written, "written")
	// Output: done 5 written
}

// Config is the configuration of a client for rotations alone.
func ExampleWorker_Config() {
	rotator, closeAll := fivePatients(context.Background())
	defer closeAll()
	worker, err := kmsriver.NewWorker(rotator)
	check(err)

	config := worker.Config(4) // jobs at the same time
	config.Schema = "kms_jobs"
	fmt.Println(config.Queues[kmsriver.Queue].MaxWorkers, config.JobTimeout)
	// Output: 4 20s
}
