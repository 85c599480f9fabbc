package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// order tells a worker process what to do, in an environment variable.
type order struct {
	DSN      string
	Executor string // a key of executors
	Version  int
	Kind     rotation.Kind
	Workers  int
	Shards   int
	Batch    int
	Lease    time.Duration

	Rate  float64       // calls a second of all processes together
	For   time.Duration // how long to work
	Calls string        // file for the times of the calls

	Service string // address of the key service of a replay
}

func (o order) options() rotation.Options {
	return rotation.Options{Kind: o.Kind, Workers: o.Workers, Shards: o.Shards, BatchSize: o.Batch, Lease: o.Lease}
}

const orderVariable = "KMSENCRYPTED_E2E_ORDER"

// executors are what a worker process can be.
var executors = map[string]func(context.Context, order) error{
	"local": runLocally,
}

// TestMain makes the test binary its own worker: with an order it carries that
// out, and tests nothing.
func TestMain(m *testing.M) {
	text, isWorker := os.LookupEnv(orderVariable)
	if !isWorker {
		os.Exit(m.Run())
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() { // the test that started it is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := work(ctx, text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func work(ctx context.Context, text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	return executors[o.Executor](ctx, o)
}

// worker is a process that carries out an order.
type worker struct {
	cmd   *exec.Cmd
	ended chan error
}

func start(t testing.TB, o order) *worker {
	t.Helper()
	text, err := json.Marshal(o)
	must(t, err)
	program, err := os.Executable()
	must(t, err)
	w := &worker{cmd: exec.CommandContext(t.Context(), program), ended: make(chan error, 1)}
	w.cmd.Env = append(os.Environ(), orderVariable+"="+string(text))
	w.cmd.Stdout, w.cmd.Stderr = os.Stderr, os.Stderr
	_, err = w.cmd.StdinPipe() // ends when this process does
	must(t, err)
	must(t, w.cmd.Start())
	go func() { w.ended <- w.cmd.Wait() }()
	return w
}

// kill ends a worker with SIGKILL. It is false if the worker had ended before.
func (w *worker) kill(t testing.TB) bool {
	t.Helper()
	if err := w.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	err := <-w.ended
	exit, ok := errors.AsType[*exec.ExitError](err)
	if err != nil && (!ok || exit.Exited()) {
		t.Fatalf("a worker failed before it was killed: %v", err)
	}
	return err != nil
}

// wait waits for a worker to be done.
func (w *worker) wait(t testing.TB) {
	t.Helper()
	must(t, <-w.ended)
}
