// Package kmsriver rotates the records of a table in the workers of a job queue,
// River (github.com/riverqueue/river), on as many machines as there are.
//
// It only schedules. What is done to a record, which shard is free, how far it
// has come and whether the run is paused lies in the tables of the rotation, as
// for [rotation.Rotator.Run]; a job of River is the right to work on them
// for a while. So a job may be done twice, twice at the same time, or never: no
// record is written twice for it, and none is forgotten.
//
// In each worker process:
//
//	worker, err := kmsriver.NewWorker(users, documents) // Rotators
//	…
//	config := worker.Config(4) // jobs at the same time
//	config.Schema = "kms_jobs"
//	client, err := river.NewClient(riverpgxv5.New(pool), config)
//	…
//	err = client.Start(ctx)
//
// And whoever wants the rotation, once or whenever a process starts:
//
//	run, err := kmsriver.Start(ctx, client, users)
//
// Rotator.Status tells what became of it; Pause, Resume and Cancel work from
// any process and from the command line.
//
// River's defaults are made for short jobs that nobody waits for: a killed
// worker is missed after an hour. [Worker.Config] has what a rotation needs. Some
// of it concerns every job of a client, and the client that leads the others
// discards a job that was killed if it does not know its kind; so give rotations
// a client and a schema of their own, or register the Worker in every client.
package kmsriver
