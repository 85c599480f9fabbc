package attach_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/race"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// Where the killed process finds what Rails attached.
const (
	childDatabase = "KMSENCRYPTED_TEST_CHILD_DATABASE"
	childObjects  = "KMSENCRYPTED_TEST_CHILD_OBJECTS"
)

var railsScenarios = map[string]func(t *testing.T, w *railsWorld, round int){
	"attach": func(t *testing.T, w *railsWorld, round int) {
		w.attach(t, w.read(t, 1), "scans", random(1, 400_000))
	},
	"rekey": func(t *testing.T, w *railsWorld, round int) { w.rekey(t, 2+round%2) },
	"reencrypt": func(t *testing.T, w *railsWorld, round int) {
		adopted, err := w.rails.Adopted(t.Context(), 0, 1)
		must(t, err)
		var id int64
		fmt.Sscan(adopted[0].RecordID, &id)
		_, err = w.rails.Reencrypt(t.Context(), w.read(t, id), adopted[0], nil)
		must(t, err)
	},
}

// A process that works on what Rails attached is killed before each of its calls
// to the database and the store: after the sweep every file reads back, none is
// lost and none left behind.
func TestRailsKill(t *testing.T) {
	if name := os.Getenv(childScenario); name != "" {
		var s steps
		w := railsWorldAt(t, os.Getenv(childDatabase), os.Getenv(childObjects), &s)
		var step int64
		fmt.Sscan(os.Getenv(childStep), &step)
		s.left.Store(step)
		railsScenarios[name](t, w, int(step))
		return
	}
	t.Parallel()
	for name := range railsScenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var manifest vectors.RailsStorage
			vectors.LoadRails(t, "storage.json", &manifest)
			database, objects := vectors.RailsDatabase(t, "storage.sqlite3"), vectors.RailsObjects(t)
			w := railsWorldAt(t, database, objects, nil)
			must(t, w.rails.CreateTables(t.Context()))
			killed, stride := 0, 1
			if race.Detector {
				stride = 12
			}
			for done := false; !done; {
				step := killed + 1
				if name == "reencrypt" {
					w.rekey(t, 2+killed%2)
				}
				child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRailsKill$")
				child.Env = append(os.Environ(), childScenario+"="+name, childDatabase+"="+database, childObjects+"="+objects, fmt.Sprint(childStep, "=", step))
				out, err := child.CombinedOutput()
				if exit, ok := errors.AsType[*exec.ExitError](err); ok && !exit.Sys().(syscall.WaitStatus).Signaled() {
					t.Fatalf("step %d: %v\n%s", step, err, out)
				}
				if done = err == nil; !done {
					killed += stride
				}
				w.exec(t, "UPDATE kms_attachment_objects SET until = 0")
				for range 2 {
					_, err := w.rails.Sweep(t.Context())
					must(t, err)
					time.Sleep(5 * time.Millisecond)
				}
				w.all(t, fmt.Sprint("killed at step ", step))
				if name == "rekey" {
					w.rekey(t, 2+step%2) // goes on where the dead process was
					w.all(t, fmt.Sprint("rekeyed after step ", step))
				}
				var blobs, listed int
				must(t, w.db.QueryRow("SELECT (SELECT count(*) FROM active_storage_blobs), (SELECT count(*) FROM kms_attachment_objects)").Scan(&blobs, &listed))
				if n := len(filesIn(t, objects)); n != blobs || listed > 0 {
					t.Errorf("step %d: %d objects for %d blobs, %d listed", killed, n, blobs, listed)
				}
			}
			t.Logf("killed at %d steps", killed)
			if killed < 8 {
				t.Errorf("killed at %d steps only", killed)
			}
		})
	}
}
