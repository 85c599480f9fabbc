package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// memory is a Store of numbered records in memory with one shard. A record is
// its version; hooks say what goes wrong.
type memory struct {
	mu       sync.Mutex
	versions []int
	started  bool
	status   rotation.Status
	owner    string
	after    string
	pending  int64
	failed   []rotation.Failure

	rotate   func(record int) error // what Rotate meets
	conflict func(record int) bool
	calls    []time.Time // of Rotate, one for each record
	reasons  []string    // of SetWaiting

	journaled int64
	slow      time.Duration // of writing a record
	think     time.Duration // of the key service for a record
	locked    func(records int) bool
	prove     func(ctx context.Context) error // calls that Write makes
}

func (m *memory) Table() string { return "numbers" }

func (m *memory) Count(context.Context, string) (counts []rotation.VersionCount, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rows := make(map[int]int64)
	for _, v := range m.versions {
		rows[v]++
	}
	for v, n := range rows {
		counts = append(counts, rotation.VersionCount{Column: "key", Version: v, HasKey: true, Rows: n})
	}
	return counts, nil
}

func (m *memory) Ranges(context.Context, int) ([]rotation.Range, error) {
	return []rotation.Range{{}}, nil
}

func (m *memory) Read(_ context.Context, s rotation.Selection) (rotation.Batch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := &memoryBatch{memory: m, done: make(map[int]bool)}
	from, _ := strconv.Atoi(s.After)
	for i := from; i < len(m.versions) && len(b.records) < s.Limit; i++ {
		if s.All || m.versions[i] != s.Target {
			b.records = append(b.records, i)
		}
	}
	b.more = len(b.records) == s.Limit
	return b, nil
}

type memoryBatch struct {
	*memory
	records  []int
	more     bool
	done     map[int]bool
	failures []rotation.Failure
}

func (b *memoryBatch) Len() int { return len(b.records) }

func (b *memoryBatch) More() bool { return b.more }

func (b *memoryBatch) Keys(from, to int) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, i := range b.records[from:to] {
		if !b.done[i] {
			n++
		}
	}
	return n
}

func (b *memoryBatch) Last() string {
	if len(b.records) == 0 {
		return ""
	}
	return strconv.Itoa(b.records[len(b.records)-1] + 1)
}

func (b *memoryBatch) Failures() []rotation.Failure { return b.failures }

func (b *memoryBatch) Rotate(_ context.Context, from, to int) error {
	time.Sleep(b.think * time.Duration(to-from))
	b.mu.Lock()
	defer b.mu.Unlock()
	var stops error
	for _, i := range b.records[from:to] {
		if b.done[i] {
			continue
		}
		b.calls = append(b.calls, time.Now())
		var err error
		if b.rotate != nil {
			err = b.rotate(i)
		}
		if kmsencrypted.Retryable(err) || kmsencrypted.ConcernsAll(err) {
			stops = err
			continue
		}
		b.done[i] = true
		if err != nil {
			b.failures = append(b.failures, rotation.Failure{Record: fmt.Sprint("id=", i), Class: rotation.FailureClass(err), Err: err})
		}
	}
	return stops
}

func (b *memoryBatch) Open(ctx context.Context, from, to int) error {
	return b.Rotate(ctx, from, to)
}

func (b *memoryBatch) Write(ctx context.Context, to rotation.Position) (o rotation.Outcome, err error) {
	time.Sleep(b.slow * time.Duration(len(b.records)))
	if b.prove != nil {
		if err := b.prove(ctx); err != nil {
			return o, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.locked != nil && b.locked(len(b.records)) {
		return o, rotation.ErrLocked
	}
	if to.Shard.Owner != b.owner || b.status.State != rotation.RunActive {
		return o, rotation.ErrLeaseLost
	}
	for _, i := range b.records {
		switch {
		case slices.ContainsFunc(b.failures, func(f rotation.Failure) bool { return f.Record == fmt.Sprint("id=", i) }):
			o.Failed++
		case b.conflict != nil && b.conflict(i):
			o.Conflicts++
		default:
			b.versions[i] = b.status.Target
			o.Written++
		}
	}
	b.failed = append(b.failed, b.failures...)
	b.pending += o.Written + o.Conflicts
	b.status.Written += o.Written
	b.status.Conflicts += o.Conflicts
	b.status.Failed += o.Failed
	if to.After != "" {
		b.after = to.After
	}
	if to.Done {
		b.status.ShardsDone, b.owner = 1, ""
	}
	return o, nil
}

func (m *memory) Newest(context.Context) (rotation.Status, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status, m.started, nil
}

func (m *memory) Start(_ context.Context, run rotation.Run, shards []rotation.Range) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.started, m.status, m.after, m.pending = true, rotation.Status{Run: run, Shards: len(shards)}, "", 0
	return nil
}

func (m *memory) Take(_ context.Context, run, owner string, _ int, _ time.Duration) (rotation.Shard, rotation.Offer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	shard := rotation.Shard{Run: run, Owner: owner, Pass: m.status.Pass, Range: rotation.Range{After: m.after}}
	switch {
	case m.status.State != rotation.RunActive:
		return shard, rotation.OfferNothing, nil
	case m.status.ShardsDone == 1:
		return shard, rotation.OfferNextPass, nil
	case m.owner != "":
		return shard, rotation.OfferWait, nil
	}
	m.owner = owner
	return shard, rotation.OfferShard, nil
}

func (m *memory) Keep(context.Context, rotation.Shard, time.Duration) error { return nil }

func (m *memory) Release(_ context.Context, shard rotation.Shard) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.owner == shard.Owner {
		m.owner = ""
	}
	return nil
}

func (m *memory) NextPass(_ context.Context, _ string, pass int) (ended bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.status.Pass != pass || !m.status.State.Unfinished() {
		return false, nil
	}
	if m.pending == 0 {
		m.status.State = rotation.RunDone
		return true, nil
	}
	m.status.Pass++
	m.status.ShardsDone, m.pending, m.after, m.failed = 0, 0, "", nil
	m.status.Failed = 0
	return true, nil
}

func (m *memory) SetState(_ context.Context, _ string, state rotation.RunState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.State = state
	return nil
}

func (m *memory) Selected(_ context.Context, s rotation.Selection) (n int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.versions {
		if s.All || v != s.Target {
			n++
		}
	}
	return n, nil
}

func (m *memory) History(context.Context, int) ([]rotation.Status, error) {
	return []rotation.Status{m.status}, nil
}

func (m *memory) SetWaiting(_ context.Context, _, reason string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Waiting = reason
	m.reasons = append(m.reasons, reason)
	return nil
}

func (m *memory) SetVerified(_ context.Context, clean bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Verified = time.Time{}
	if clean {
		m.status.Verified = time.Now()
	}
	return nil
}

func (m *memory) FailureCounts(context.Context, string) (map[string]int64, error) {
	counts := make(map[string]int64)
	for _, f := range m.failed {
		counts[f.Class]++
	}
	return counts, nil
}

func (m *memory) Mend(context.Context, rotation.Mending) (h rotation.Healing, next string, err error) {
	return h, "", nil
}

func (m *memory) Journals(context.Context) ([]rotation.RunJournal, error) { return nil, nil }

func (m *memory) Journaled(context.Context, int) (int64, error) { return m.journaled, nil }

func (m *memory) ClearJournal(context.Context, time.Duration) (int64, error) { return m.journaled, nil }

func (m *memory) Failures(context.Context, string, int) ([]rotation.Failure, error) {
	return m.failed, nil
}

// ofVersion is n records at version 1.
func ofVersion1(n int) *memory { return &memory{versions: slices.Repeat([]int{1}, n)} }

func rotationBox(t testing.TB) *kmsencrypted.Box {
	t.Helper()
	b, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{
		1: {Provider: testkey.New()}, 2: {Provider: testkey.New()}, 3: {Provider: testkey.New(), Format: kmsencrypted.Ruby},
	}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newRotator(t testing.TB, m *memory, o rotation.Options) *rotation.Rotator {
	t.Helper()
	r, err := rotation.New(rotationBox(t), m, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRotatorOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []rotation.Options{
		{Workers: -1}, {Shards: -1}, {BatchSize: -1}, {Limit: -1}, {Lease: -1}, {Kind: "other"}, {Kind: rotation.Rekey},
	} {
		if _, err := rotation.New(rotationBox(t), ofVersion1(0), o); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("NewRotator(%+v) = %v, want ErrConfig", o, err)
		}
	}
}

func TestRotatorPlan(t *testing.T) {
	t.Parallel()
	m := &memory{versions: []int{1, 1, 1, 2, 2, 3, 9}}
	plan, err := newRotator(t, m, rotation.Options{}).Plan(t.Context())
	if err != nil || plan.Keys != 5 || plan.Calls != 10 {
		t.Errorf("Plan() = %+v, %v, want 5 keys and 10 calls", plan, err)
	}
	for _, v := range plan.Versions {
		want := map[int]rotation.Kind{1: rotation.Rewrap, 2: "", 3: rotation.Rekey, 9: rotation.Rewrap}[v.Version]
		if v.Need != want || (v.Version == 9) != errors.Is(v.Err, kmsencrypted.ErrVersionNotActive) {
			t.Errorf("version %d: need %q, %v, want %q", v.Version, v.Need, v.Err, want)
		}
	}
	if _, err := newRotator(t, m, rotation.Options{}).Run(t.Context()); !errors.Is(err, kmsencrypted.ErrNeedsRekey) || m.started {
		t.Errorf("Run() = %v, want ErrNeedsRekey before anything began", err)
	}
}

// Conflicts are met again in the next pass, and failures do not stop the rest.
func TestRotatorPasses(t *testing.T) {
	t.Parallel()
	m := ofVersion1(100)
	refused := make(map[int]bool)
	m.conflict = func(i int) bool {
		again := i%10 == 0 && !refused[i]
		refused[i] = true
		return again
	}
	m.rotate = func(i int) error {
		if i%25 == 3 {
			return kmsencrypted.ErrDecrypt
		}
		return nil
	}
	events := make(map[rotation.EventType]int)
	var mu sync.Mutex
	r := newRotator(t, m, rotation.Options{BatchSize: 7, TargetTime: -1, Workers: 2, Observe: func(e rotation.Event) {
		mu.Lock()
		defer mu.Unlock()
		events[e.Type]++
	}})
	result, err := r.Run(t.Context())
	want := rotation.Outcome{Written: 96, Conflicts: 10, Failed: 4}
	if err != nil || result.Outcome != want || result.Pass != 3 || !result.Done {
		t.Errorf("Run() = %+v, %v, want %+v in 3 passes", result, err, want)
	}
	failures, err := r.Failures(t.Context(), 0)
	if err != nil || len(failures) != 4 || failures[0].Class != "decrypt" {
		t.Errorf("Failures() = %v, %v, want 4", failures, err)
	}
	for event, least := range map[rotation.EventType]int{
		rotation.EventPlanned: 1, rotation.EventShard: 3, rotation.EventBatch: 15, rotation.EventConflict: 1,
		rotation.EventFailure: 12, rotation.EventShardDone: 3, rotation.EventPassDone: 3,
	} {
		if events[event] < least {
			t.Errorf("%d events %q, want at least %d", events[event], event, least)
		}
	}
	if got := events[rotation.EventPassDone]; got != result.Pass {
		t.Errorf("two workers told %d times that a pass is done, want once for each of %d", got, result.Pass)
	}
	if result, err := r.Run(t.Context()); err != nil || result.Failed != 4 || result.Written != 0 {
		t.Errorf("second Run() = %+v, %v, want the 4 failures again", result, err)
	}
}

func TestRotatorMaxFailures(t *testing.T) {
	t.Parallel()
	m := ofVersion1(100)
	m.rotate = func(int) error { return kmsencrypted.ErrDecrypt }
	result, err := newRotator(t, m, rotation.Options{BatchSize: 5, MaxFailures: 12, Workers: 1}).Run(t.Context())
	if !errors.Is(err, rotation.ErrTooManyFailures) || result.Failed != 15 || m.owner != "" {
		t.Errorf("Run() = %+v, %v, want ErrTooManyFailures after 15, shard given back", result, err)
	}
	if v, err := newRotator(t, m, rotation.Options{}).Verify(t.Context(), rotation.VerifyOptions{MaxFailures: 3}); !errors.Is(err, rotation.ErrTooManyFailures) {
		t.Errorf("Verify() = %+v, %v, want ErrTooManyFailures", v, err)
	}
}

// The most failures are those of one pass, which tries the records of the one before again.
func TestRotatorMaxFailuresOfPass(t *testing.T) {
	t.Parallel()
	m := ofVersion1(100)
	m.rotate = func(i int) error {
		if i%10 == 0 {
			return kmsencrypted.ErrKeyUnusable
		}
		return nil
	}
	result, err := newRotator(t, m, rotation.Options{MaxFailures: 15}).Run(t.Context())
	if want := (rotation.Outcome{Written: 90, Failed: 10}); err != nil || result.Outcome != want || result.Pass != 2 {
		t.Errorf("Run() = %+v, %v, want %+v in 2 passes", result, err, want)
	}
}

// A store that calls the key service while it writes meets throttling as the rotation does: it
// waits, and what never answers holds the run no longer than a while after its context.
func TestRotatorWriteMeetsKeyService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := ofVersion1(20)
		began := time.Now()
		m.prove = func(context.Context) error {
			if time.Since(began) < time.Minute {
				return kmsencrypted.ErrThrottled
			}
			return nil
		}
		result, err := newRotator(t, m, rotation.Options{}).Run(t.Context())
		if took := time.Since(began); err != nil || result.Written != 20 || !result.Done || took < time.Minute || took > 2*time.Minute {
			t.Errorf("Run() = %+v, %v after %v, want 20 written after a minute", result, err, took)
		}
		m = ofVersion1(20)
		m.prove = func(context.Context) error { return kmsencrypted.ErrUnavailable }
		began = time.Now()
		_, err = newRotator(t, m, rotation.Options{MaxWait: 20 * time.Second}).Run(t.Context())
		if took := time.Since(began); !errors.Is(err, kmsencrypted.ErrUnavailable) || took < 20*time.Second || took > 40*time.Second {
			t.Errorf("Run() = %v after %v, want ErrUnavailable after 20 s", err, took)
		}
		m.prove = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began = time.Now()
		_, err = newRotator(t, m, rotation.Options{}).Run(ctx)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 75*time.Second || m.owner != "" {
			t.Errorf("Run() = %v after %v, owner %q, want the end of the context and the shard given back", err, took, m.owner)
		}
	})
}

func TestRotatorDenied(t *testing.T) {
	t.Parallel()
	m := ofVersion1(10)
	m.rotate = func(int) error { return kmsencrypted.ErrDenied }
	result, err := newRotator(t, m, rotation.Options{}).Run(t.Context())
	if !errors.Is(err, kmsencrypted.ErrDenied) || result.Outcome != (rotation.Outcome{}) || m.owner != "" {
		t.Errorf("Run() = %+v, %v, want ErrDenied, nothing written, shard given back", result, err)
	}
	m.rotate = nil
	if result, err := newRotator(t, m, rotation.Options{}).Run(t.Context()); err != nil || result.Written != 10 {
		t.Errorf("Run() after that = %+v, %v, want it to go on", result, err)
	}
}

// A throttled batch waits and goes on with what is left; when it never gets
// better the run stops and can be resumed.
func TestRotatorThrottled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := ofVersion1(20)
		refusals := 30
		m.rotate = func(int) error {
			if refusals > 0 {
				refusals--
				return kmsencrypted.ErrThrottled
			}
			return nil
		}
		began := time.Now()
		var waits time.Duration
		sum := func(e rotation.Event) { waits += e.Stages.Wait }
		result, err := newRotator(t, m, rotation.Options{Workers: 1, Observe: sum}).Run(t.Context())
		if waits != 600*time.Millisecond {
			t.Errorf("events tell of %v of waiting, want 600 ms", waits)
		}
		if err != nil || result.Written != 20 || len(m.calls) != 50 {
			t.Errorf("Run() = %+v, %v after %d tries, want 20 written after 50", result, err, len(m.calls))
		}
		if waited := time.Since(began); waited != 600*time.Millisecond {
			t.Errorf("waited %v, want 200 ms and 400 ms", waited)
		}
		outage := func(int) error { return kmsencrypted.ErrUnavailable }
		answered := time.Now()
		trickle := func(int) error { // one record at a time
			if time.Since(answered) < 9*time.Second {
				return kmsencrypted.ErrThrottled
			}
			answered = time.Now()
			return nil
		}
		for _, c := range []struct {
			rotate       func(int) error
			maxWait      time.Duration
			want         error
			least, most  time.Duration
			wantsWritten int64
		}{
			{outage, 0, kmsencrypted.ErrUnavailable, time.Minute, 90 * time.Second, 0},
			{outage, 5 * time.Second, kmsencrypted.ErrUnavailable, time.Second, 5 * time.Second, 0},
			{trickle, 25 * time.Second, nil, time.Minute, time.Hour, 20},
		} {
			m, began := ofVersion1(20), time.Now()
			m.rotate = c.rotate
			result, err := newRotator(t, m, rotation.Options{Workers: 1, MaxWait: c.maxWait}).Run(t.Context())
			if took := time.Since(began); !errors.Is(err, c.want) || took < c.least || took > c.most || result.Written != c.wantsWritten {
				t.Errorf("MaxWait %v: Run() = %+v, %v after %v, want %v after %v to %v", c.maxWait, result, err, took, c.want, c.least, c.most)
			}
		}
	})
}

// The end of ctx lets the batch in flight be written and gives the shard back.
func TestRotatorCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	m := ofVersion1(100)
	m.rotate = func(i int) error {
		if i == 25 {
			cancel()
		}
		return nil
	}
	result, err := newRotator(t, m, rotation.Options{BatchSize: 10, Workers: 1}).Run(ctx)
	if !errors.Is(err, context.Canceled) || result.Written != 30 || result.Done || m.owner != "" {
		t.Errorf("Run() = %+v, %v, owner %q, want 30 written and the shard given back", result, err, m.owner)
	}
	result, err = newRotator(t, m, rotation.Options{}).Run(t.Context())
	if err != nil || result.Written != 70 || !result.Done {
		t.Errorf("Run() after that = %+v, %v, want the other 70", result, err)
	}
}

// A pause stops the workers at once; the run goes on after it.
func TestRotatorPause(t *testing.T) {
	t.Parallel()
	m := ofVersion1(100)
	r := newRotator(t, m, rotation.Options{BatchSize: 10, Workers: 1})
	m.rotate = func(i int) error {
		if i == 25 {
			m.status.State = rotation.RunPaused // as another process does with Pause
		}
		return nil
	}
	for range 2 {
		result, err := r.Run(t.Context())
		// The second batch is being written while the third meets the pause.
		if written := m.status.Written; !errors.Is(err, rotation.ErrPaused) || written < 10 || written > 22 {
			t.Errorf("Run() = %+v, %v, %d written, want ErrPaused after one batch or two", result, err, written)
		}
	}
	m.rotate = nil
	if err := r.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := 100 - m.status.Written
	result, err := r.Run(t.Context())
	if err != nil || result.Written != left || !result.Done {
		t.Errorf("Run() after Resume = %+v, %v, want the other %d", result, err, left)
	}
	if err := r.Cancel(t.Context()); err != nil || m.status.State != rotation.RunDone {
		t.Errorf("Cancel() of a run that is done: state %v, %v", m.status.State, err)
	}
}

// The limiter keeps the calls of all workers even.
func TestRotatorCallRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rate = 200
		m := ofVersion1(500)
		began := time.Now()
		result, err := newRotator(t, m, rotation.Options{BatchSize: 100, Calls: rotation.NewLimiter(rate)}).Run(t.Context())
		if err != nil || result.Written != 500 {
			t.Fatalf("Run() = %+v, %v", result, err)
		}
		if took, want := time.Since(began), 5*time.Second; took < want*9/10 || took > want*11/10 {
			t.Errorf("1,000 calls took %v, want %v", took, want)
		}
		for i, from := range m.calls {
			n := 2 * (slices.IndexFunc(m.calls[i:], func(c time.Time) bool { return c.Sub(from) > time.Second }))
			if n > rate*11/10 {
				t.Errorf("%d calls in the second after %v, want at most %d", n, from.Sub(began), rate*11/10)
			}
		}
	})
}

func TestFailureClass(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		kmsencrypted.ErrBinding: "binding", fmt.Errorf("x: %w", kmsencrypted.ErrNoDataKey): "no-data-key", errors.New("x"): "other",
	} {
		if got := rotation.FailureClass(err); got != want || strings.ContainsAny(got, " :") {
			t.Errorf("FailureClass(%v) = %q, want %q", err, got, want)
		}
	}
}
