// Package kmsriver rotates the records of a table in the workers of a job queue,
// River (github.com/riverqueue/river), on any number of machines.
//
// It only schedules. As for [rotation.Rotator.Run], the tables of the rotation
// hold all state: which shards are free, how far they are, and whether the run is
// paused. A job of River is only the permission to work on them for a while. So a
// job may run twice, twice at once, or never: no record is written twice because
// of that, and none is forgotten.
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
// To start the rotation, once or whenever a process starts:
//
//	run, err := kmsriver.Start(ctx, client, users)
//
// Rotator.Status reports the progress. Pause, Resume and Cancel work from any
// process and from the command line.
//
// River's defaults are made for short jobs that nobody waits for: a killed worker
// is noticed after an hour. [Worker.Config] has what a rotation needs. Some of its
// settings apply to every job of a client. Also, the leading client discards a job
// that was killed if it does not know its kind. So give rotations a client and a
// schema of their own, or register the Worker in every client.
package kmsriver
