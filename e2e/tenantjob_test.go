package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
)

// tenantJob is a job that knows for whom it was queued.
type tenantJob struct {
	Number int             `json:"number"`
	Tenant json.RawMessage `json:"tenant"`
}

func (tenantJob) Kind() string { return "tenant" }

type tenantWorker struct {
	river.WorkerDefaults[tenantJob]
	mu   sync.Mutex
	seen map[int]string
	done chan struct{}
	want int
}

func (w *tenantWorker) Work(ctx context.Context, job *river.Job[tenantJob]) error {
	ctx, err := files.UnmarshalContext(ctx, job.Args.Tenant)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[job.Args.Number] = files.Tenant(ctx)
	if len(w.seen) == w.want {
		close(w.done)
	}
	return nil
}

// Jobs of two tenants and of none run at the same time in one process, each for its own.
func TestTenantJobs(t *testing.T) {
	t.Parallel()
	const jobs = 30
	pool, err := pgxpool.New(t.Context(), dbserver.Postgres(t))
	must(t, err)
	t.Cleanup(pool.Close)
	driver := riverpgxv5.New(pool)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet})
	must(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	must(t, err)
	worker := &tenantWorker{seen: make(map[int]string), done: make(chan struct{}), want: jobs}
	workers := river.NewWorkers()
	river.AddWorker(workers, worker)
	client, err := river.NewClient(driver, &river.Config{Logger: quiet, Workers: workers, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 8}}})
	must(t, err)
	tenants := []string{"acme", "umbrella", ""}
	for i := range jobs {
		carried, err := files.MarshalContext(files.WithTenant(t.Context(), tenants[i%len(tenants)]))
		must(t, err)
		_, err = client.Insert(t.Context(), tenantJob{i, carried}, nil)
		must(t, err)
	}
	must(t, client.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := client.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-worker.done:
	case <-time.After(time.Minute):
		t.Fatal("the jobs did not end")
	}
	worker.mu.Lock()
	defer worker.mu.Unlock()
	for i, tenant := range worker.seen {
		if want := tenants[i%len(tenants)]; tenant != want {
			t.Errorf("job %d ran for %q, want %q", i, tenant, want)
		}
	}
	fmt.Printf("counted: %d jobs of tenants\n", len(worker.seen))
}
