package rotatecli_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// outage provokes a line of the runbook's table, types what it says, and makes sure that
// this helps.
type outage struct {
	on    func(testing.TB) server // nil: SQLite
	do    func(*night)
	alone bool // changes a variable of the whole server, or measures it
}

func onPostgres(t testing.TB) server {
	return server{dialect: field.Postgres, driver: "pgx", dsn: dbserver.Postgres(t), text: "text"}
}

func onMariaDB(t testing.TB) server {
	return server{dialect: field.MySQL, driver: "mysql", dsn: dbserver.MariaDB(t), text: "longtext"}
}

func withReplica(t testing.TB) server {
	dsn, _, stop := dbserver.PostgresReplica(t)
	return server{dialect: field.Postgres, driver: "pgx", dsn: dsn, text: "text", stop: stop}
}

const (
	run   = "rotate run --to 2"
	begun = "SELECT count(*) FROM kms_rotations WHERE state = 'active'"
	moved = "SELECT sum(written) FROM kms_rotation_shards"
)

var outages = map[string]outage{
	"`rewrap active`, and the numbers grow with `ops rotate status --watch`": {do: func(n *night) {
		n.fill(40)
		n.next.Set(kmstest.Slow(20*time.Millisecond, 1))
		wait := n.background(n.Context(), 0, run+" --workers 1 --batch 5")
		n.until(moved)
		said := n.ops(0, "rotate status --watch --every 100ms")
		wait()
		written := -1
		grown := 0
		for _, number := range regexp.MustCompile(`rewrap active.* ([0-9]+) written`).FindAllStringSubmatch(said, -1) {
			now, err := strconv.Atoi(number[1])
			n.must(err)
			if now > written {
				grown++
			}
			written = now
		}
		if grown < 3 {
			n.Errorf("the numbers grew %d times:\n%s", grown, said)
		}
	}},
	"`rewrap active`, `nobody at work`": {do: func(n *night) {
		n.fill(40)
		n.ops(0, run+" --limit 5 --workers 1")
		n.ops(0, "rotate status")
		n.says(n.ops(0, run), "done")
	}},
	"`rewrap paused`": {do: func(n *night) {
		n.fill(40)
		n.ops(0, run+" --limit 5 --workers 1")
		n.ops(0, "rotate pause")
		n.ops(0, "rotate status")
		n.ops(3, run)
		n.ops(0, "rotate resume")
		n.says(n.ops(0, run), "done")
	}},
	"`throttled: …` in the line of progress": {do: func(n *night) {
		n.fill(40)
		n.next.Set(kmstest.Throttle(1))
		ctx, interrupt := context.WithCancel(n.Context())
		defer time.AfterFunc(14*time.Second, interrupt).Stop() // a line is printed every ten
		n.opsUntil(ctx, n.db.DB, 3, run)
		n.next.Set()
		n.says(n.ops(0, run+" --kms-rate 1000"), "done")
	}},
	"`waiting: …`, such as replication lag": {do: func(n *night) {
		n.fill(40)
		n.ops(0, run+" --limit 1")
		ctx, interrupt := context.WithCancel(n.Context())
		wait := n.background(ctx, 3, run+" --hold-query 'SELECT 1'")
		n.until("SELECT count(*) FROM kms_rotations WHERE waiting LIKE '%query%'")
		n.ops(0, "rotate status")
		interrupt()
		wait()
		n.says(n.ops(0, run), "done")
	}},
	"exit code 4": {do: func(n *night) {
		n.fill(40)
		for _, refusal := range []error{kmsencrypted.ErrThrottled, kmsencrypted.ErrUnavailable} {
			n.next.Set(kmstest.Fail(refusal, 1).On(kmsencrypted.OpWrap, kmsencrypted.OpUnwrap))
			n.says(n.ops(4, run+" --max-wait 1s"), refusal.Error())
			n.says(n.ops(2, "doctor"), refusal.Error())
		}
		n.next.Set()
		n.ops(4, run+" --max-wait 1s --hold-query 'SELECT 1'")
		n.says(n.ops(0, run), "40 rewrapped", "done")
	}},
	"`permission denied by the key service`": {do: func(n *night) {
		n.fill(40)
		n.next.Set(kmstest.Revoke(1).On(kmsencrypted.OpWrap))
		n.ops(1, run)
		if n.at(2) != 0 {
			n.Errorf("%d rows were written", n.at(2))
		}
		n.says(n.ops(2, "doctor"), "may not encrypt")
		n.next.Set()
		n.says(n.ops(0, run), "40 rewrapped", "done")
	}},
	"`version 2, key …: …` before the first record": {do: func(n *night) {
		n.fill(40)
		n.next.Set(kmstest.Fail(kmsencrypted.ErrKeyUnusable, 1))
		n.ops(1, run)
		n.ops(2, "doctor")
		n.says(n.ops(0, "rotate status"), "no run yet")
		n.next.Set()
		n.says(n.ops(0, run), "40 rewrapped", "done")
	}},
	"`N failed`, exit code 2": {do: func(n *night) {
		n.fill(40)
		n.setCell("encrypted_kms_key", 7, "v1:AAAA")
		n.setCell("encrypted_kms_key", 8, "v1:AAAA")
		n.says(n.ops(2, run), "38 rewrapped", "2 failed", "done")
		n.says(n.ops(0, "rotate status --failures"), "id=7", "id=8")
	}},
	"`… version-not-active`": {do: func(n *night) {
		n.fill(40)
		n.setCell("encrypted_kms_key", 7, "v9"+n.cell("encrypted_kms_key", 7)[2:])
		n.ops(2, run)
		n.says(n.ops(0, "rotate status"), "version-not-active")
		n.versions[9] = n.versions[1]
		n.says(n.ops(0, run), "1 rewrapped", "done")
	}},
	"`… decrypt`, `… binding`, `… malformed`": {do: func(n *night) {
		n.fill(40)
		sound := make(map[int]string)
		for id, damaged := range map[int]func(string) string{
			7: func(key string) string { return key[:20] },
			8: func(key string) string { return flipped(key, -20) },
			9: func(key string) string { return flipped(key, 10) },
			// One that was moved from another record.
			10: func(string) string { return n.cell("encrypted_kms_key", 11) },
		} {
			sound[id] = n.cell("encrypted_kms_key", id)
			n.setCell("encrypted_kms_key", id, damaged(sound[id]))
		}
		n.says(n.ops(2, run), "36 rewrapped", "4 failed")
		n.ops(0, "inspect --table customers --id 7")
		for id, key := range sound { // from the backup
			n.setCell("encrypted_kms_key", id, key)
		}
		n.says(n.ops(0, run), "4 rewrapped", "done")
	}},
	"`too many records failed`": {do: func(n *night) {
		n.fill(1500)
		// Something is wrong with all of them.
		right := n.versions[1]
		wrong := right
		wrong.Context = func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"other": "x"}, nil
		}
		n.versions[1] = wrong
		n.ops(2, run+" --batch 50")
		var failed int
		n.must(n.db.Get(&failed, "SELECT count(*) FROM kms_rotation_failures"))
		if failed < 1000 || failed > 1200 {
			n.Errorf("it stopped after %d failures", failed)
		}
		n.ops(0, "rotate status --failures")
		n.ops(0, "inspect --table customers --id 7")
		n.versions[1] = right
		n.says(n.ops(0, run), "1,500 rewrapped", "done")
	}},
	"`a rewrap to version 2 is unfinished`": {do: func(n *night) {
		n.fill(40)
		n.versions[3] = n.versions[2]
		n.ops(0, run+" --limit 5 --workers 1")
		n.current = 3
		rekey := "rotate run --to 3 --kind rekey --writers-are-ours"
		n.ops(1, rekey)
		n.ops(0, "rotate cancel")
		n.says(n.ops(0, rekey), "40 rekeyed", "done")
	}},
	"`the current version is 1, not 2`": {do: func(n *night) {
		n.fill(40)
		n.current = 1
		n.ops(64, run)
		if n.at(1) != 40 {
			n.Errorf("%d rows were written", 40-n.at(1))
		}
		n.current = 2
		n.says(n.ops(0, run), "40 rewrapped", "done")
	}},
	"the database is slow": {do: func(n *night) {
		n.fill(200)
		n.next.Set(kmstest.Slow(50*time.Millisecond, 1))
		wait := n.background(n.Context(), 3, run+" --workers 1 --batch 5")
		n.until(moved)
		n.ops(0, "rotate pause")
		began := time.Now()
		wait()
		if took := time.Since(began); took > time.Second {
			n.Errorf("it went on for %v", took)
		}
		n.next.Set()
		n.ops(0, "rotate resume")
		n.says(n.ops(0, run), "done")
	}},
	"`… other-data-key` in `ops rotate verify` after a rekey": {do: func(n *night) {
		n.fill(40)
		before := n.cell("email_ciphertext", 7)
		n.ops(0, run+" --kind rekey --writers-are-ours")
		n.setCell("email_ciphertext", 7, before) // as a writer does that had read the row earlier
		n.says(n.ops(2, "rotate verify"), "1 record did not open")
		n.says(n.ops(0, "rotate heal --dry-run"), "1 could be mended")
		n.says(n.ops(0, "rotate heal"), "1 mended")
		n.says(n.ops(0, "rotate verify"), "clean")
	}},
	"`… stale-index` in `ops rotate verify --derived`": {do: func(n *night) {
		n.contacts('x')
		n.ops(0, "rotate run --kind migrate --writers-are-ours")
		n.contactsModel('y')
		n.ops(2, "rotate verify --derived")
		n.says(n.ops(0, "rotate run --kind reindex"), "100 indexed", "done")
		n.says(n.ops(0, "rotate verify --derived"), "clean")
	}},
	"`… not-migrated` in `ops rotate verify --kind migrate` or `--derived`": {do: func(n *night) {
		n.contacts('x')
		migrate := "rotate run --kind migrate --writers-are-ours"
		n.says(n.ops(2, "rotate verify --kind migrate"), "100 records to migrate")
		n.ops(0, migrate)
		n.exec("UPDATE contacts SET email = 'another' WHERE id = 4") // by an old program
		n.says(n.ops(2, "rotate verify --kind migrate"), "not-migrated  1")
		n.says(n.ops(2, "rotate verify --derived"), "not-migrated  1")
		n.says(n.ops(0, migrate), "1 migrated", "done")
		n.says(n.ops(0, "rotate verify --kind migrate"), "clean")
	}},
	"a service of several (`providers/multi`) was unavailable for a while": {do: func(n *night) {
		spare, err := local.Create(n.TempDir() + "/spare.key")
		n.must(err)
		away := kmstest.NewService(spare, kmstest.Unavailable(1))
		n.versions[1] = kmsencrypted.Version{Provider: multi.New([]kmsencrypted.Provider{n.old.Provider(), away.Provider()}, multi.Options{Quorum: 1, Tags: []string{"first", "spare"}})}
		n.current = 1
		n.fill(40)
		away.Set()
		n.says(n.ops(0, "rotate run --kind complete"), "40 completed", "done")
		n.old.Set(kmstest.Unavailable(1))
		n.says(n.ops(0, "rotate verify"), "40 opened  clean")
	}},
	"the same records are conflicts again and again": {do: func(n *night) {
		n.fill(40)
		var times atomic.Int64
		n.next.Set(kmstest.Before(func(ctx context.Context) error { // an application writes record 7 all the time
			app := n.model(2)
			var row granted
			if err := kmssqlx.Get(ctx, n.db, app, &row, "SELECT * FROM customers WHERE id = 7"); err != nil {
				return err
			}
			row.Email.Set(fmt.Sprint(secretEmail, times.Add(1)))
			return kmssqlx.Update(ctx, n.db, app, &row)
		}).On(kmsencrypted.OpWrap))
		n.says(n.ops(2, run+" --kind rekey --writers-are-ours"), "39 rekeyed", "conflict  1", "id=7", "done")
		n.says(n.ops(0, "rotate status"), "pass 8") // seven after the one that moved the others
		n.next.Set()
		n.says(n.ops(0, run+" --kind rekey --writers-are-ours"), "1 rekeyed", "done")
	}},
	"`… database`, `did not keep the new value` or `skipped the update`": {do: func(n *night) {
		n.fill(40)
		n.exec("CREATE TRIGGER a AFTER UPDATE ON customers WHEN OLD.id = 7 BEGIN UPDATE customers SET encrypted_kms_key = OLD.encrypted_kms_key WHERE id = OLD.id; END",
			"CREATE TRIGGER b BEFORE UPDATE ON customers WHEN OLD.id = 8 BEGIN SELECT RAISE(IGNORE); END")
		n.says(n.ops(2, run), "38 rewrapped", "2 failed", "done")
		n.exec("DROP TRIGGER a", "DROP TRIGGER b")
		n.says(n.ops(0, run), "2 rewrapped", "done")
	}},
	"`… database`, `does not fit into a statement`": {on: onMariaDB, alone: true, do: func(n *night) {
		n.fill(40)
		large := granted{ID: 41, Email: field.New(strings.Repeat("x", 3<<20))}
		n.must(kmssqlx.Insert(n.Context(), n.db, n.model(1), &large))
		var before int64
		n.must(n.db.Get(&before, "SELECT @@global.max_allowed_packet"))
		defer n.exec(fmt.Sprint("SET GLOBAL max_allowed_packet = ", before))
		n.exec("SET GLOBAL max_allowed_packet = 4194304")
		n.db.SetMaxIdleConns(0) // it concerns new connections
		rekey := run + " --kind rekey --writers-are-ours"
		n.says(n.ops(2, rekey), "40 rekeyed", "1 failed", "id=41", "done")
		n.exec(fmt.Sprint("SET GLOBAL max_allowed_packet = ", before))
		n.says(n.ops(0, rekey), "1 rekeyed", "done")
	}},
	"`… denied`, `… throttled`, `… unavailable` for some records": {do: func(n *night) {
		refusals := map[int64]error{7: kmsencrypted.ErrDenied, 8: kmsencrypted.ErrThrottled, 9: kmsencrypted.ErrUnavailable}
		tenants := make(map[int64]*kmstest.Service)
		for id := range refusals {
			tenants[id] = kmstest.NewService(kmstest.Memory())
		}
		n.versions[1] = kmsencrypted.Version{ProviderFor: func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
			id, err := strconv.ParseInt(s.ID[0], 10, 64)
			if tenant, has := tenants[id]; has {
				return tenant.Provider(), err
			}
			return n.old.Provider(), err
		}}
		n.fill(40)
		for id, refusal := range refusals {
			tenants[id].Set(kmstest.Fail(refusal, 1))
		}
		n.says(n.ops(2, run+" --max-wait 1s"), "37 rewrapped", "3 failed", "done")
		n.ops(0, "doctor")
		for id := range refusals {
			tenants[id].Set()
		}
		n.says(n.ops(0, run), "3 rewrapped", "done")
	}},
	"`… decrypt` or `… binding` of many records in `ops rotate verify`, after a rewrap": {do: func(n *night) {
		n.fill(400)
		p, err := local.Create(n.TempDir() + "/other.key")
		n.must(err)
		confused := &wrapsOther{Provider: p}
		n.next = kmstest.NewService(confused)
		n.versions[2] = kmsencrypted.Version{Provider: n.next.Provider()}
		var opened atomic.Int64
		n.next.Set(kmstest.Before(func(context.Context) error {
			if opened.Add(1) == 100 { // the last that is opened again
				confused.is.Store(true)
				n.next.Set(kmstest.Corrupt(0.3).On(kmsencrypted.OpWrap))
			}
			return nil
		}).On(kmsencrypted.OpUnwrap))
		n.says(n.ops(0, run+" --workers 1 --batch 10"), "400 rewrapped")
		n.next.Set()
		confused.is.Store(false)
		said := n.ops(2, "rotate verify")
		lost := regexp.MustCompile(`([0-9]+) records did not open`).FindStringSubmatch(said)
		if lost == nil || len(lost[1]) < 2 {
			n.Fatalf("want many that do not open:\n%s", said)
		}
		n.says(n.ops(0, "rotate heal --dry-run"), lost[1]+" could be mended")
		n.versions[3] = n.versions[1]
		n.current = 3
		n.says(n.ops(0, "rotate heal"), lost[1]+" mended")
		n.ops(0, "rotate run")
		n.says(n.ops(0, "rotate verify"), "400 opened  clean")
	}},
	"`the new wrapped key does not open`": {do: func(n *night) {
		n.fill(40)
		n.next.Set(kmstest.Corrupt(1).On(kmsencrypted.OpWrap))
		n.says(n.ops(2, run), "0 rewrapped", "40 failed")
		if n.at(1) != 40 {
			n.Errorf("%d rows were committed", 40-n.at(1))
		}
		n.says(n.ops(0, "doctor"), "does not decrypt")
	}},
	"`row level security may hide rows`": {on: onPostgres, do: func(n *night) {
		n.fill(40)
		n.ops(0, "rotate init")
		role, ops := n.role()
		n.exec("ALTER TABLE customers ENABLE ROW LEVEL SECURITY", "CREATE POLICY few ON customers USING (id < 20)",
			"GRANT ALL ON ALL TABLES IN SCHEMA public TO "+role)
		for _, command := range []string{run, "rotate plan", "rotate verify", "versions retire 1"} {
			n.says(n.opsUntil(n.Context(), ops.DB, 1, command), "row level security may hide rows")
		}
		n.exec("ALTER ROLE " + role + " BYPASSRLS")
		n.says(n.opsUntil(n.Context(), ops.DB, 0, run), "40 rewrapped", "done")
	}},
	"`the table has columns that the model does not` in the middle of a rekey": {do: func(n *night) {
		n.fill(200)
		var once sync.Once
		n.next.Set(kmstest.Before(func(context.Context) (err error) {
			if n.at(2) > 50 {
				once.Do(func() { _, err = n.db.Exec("ALTER TABLE customers ADD COLUMN phone_ciphertext text") })
			}
			return err
		}).On(kmsencrypted.OpWrap))
		rekey := run + " --kind rekey --writers-are-ours --workers 1 --batch 10"
		n.says(n.ops(1, rekey), "phone_ciphertext")
		at := n.at(2)
		n.ops(1, rekey)
		if at < 50 || at > 100 || n.at(2) != at {
			n.Errorf("%d rows were written, then %d", at, n.at(2))
		}
		n.models = func(b *kmsencrypted.Box) []field.AnyModel {
			return []field.AnyModel{modelIn[withPhone](n, b, "customers")}
		}
		n.says(n.ops(0, rekey), fmt.Sprint(200-at, " rekeyed"), "done")
	}},
	"`the database user lacks UPDATE on …`": {on: onPostgres, do: func(n *night) {
		n.fill(40)
		n.ops(0, "rotate init")
		role, ops := n.role()
		n.exec("GRANT ALL ON ALL TABLES IN SCHEMA public TO "+role, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "+role, "REVOKE UPDATE ON customers FROM "+role)
		n.opsUntil(n.Context(), ops.DB, 1, run)
		if n.at(1) != 40 {
			n.Errorf("%d rows were written", 40-n.at(1))
		}
		n.exec("GRANT UPDATE ON customers TO " + role)
		n.says(n.opsUntil(n.Context(), ops.DB, 0, run), "40 rewrapped", "done")
	}},
	"`the database is a replica or read-only`": {on: onPostgres, do: func(n *night) {
		n.fill(40)
		n.ops(0, "rotate init")
		replica := n.connect(n.dsn + "&default_transaction_read_only=on")
		n.opsUntil(n.Context(), replica.DB, 1, run)
		n.opsUntil(n.Context(), replica.DB, 1, "rotate verify")
		if n.at(1) != 40 {
			n.Errorf("%d rows were written", 40-n.at(1))
		}
		n.says(n.ops(0, run), "40 rewrapped", "done")
		n.says(n.opsUntil(n.Context(), replica.DB, 0, "rotate verify --on-replica"), "40 opened  clean")
	}},
	"`the database user may not see the replication lag`": {on: withReplica, do: func(n *night) {
		n.fill(40)
		n.ops(0, "rotate init")
		role, ops := n.role()
		n.exec("GRANT ALL ON ALL TABLES IN SCHEMA public TO "+role, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "+role)
		n.opsUntil(n.Context(), ops.DB, 1, run+" --max-lag 5s")
		n.exec("GRANT pg_monitor TO " + role)
		n.says(n.opsUntil(n.Context(), ops.DB, 0, run+" --max-lag 5s"), "40 rewrapped", "done")
	}},
	"`waiting: … replicas is gone`, or `a replica is gone`": {on: withReplica, do: func(n *night) {
		n.fill(200)
		n.next.Set(kmstest.Slow(50*time.Millisecond, 1))
		ctx, interrupt := context.WithCancel(n.Context())
		wait := n.background(ctx, 3, run+" --max-lag 5s --workers 1 --batch 5")
		n.until(moved)
		n.stop()
		n.until("SELECT count(*) FROM kms_rotations WHERE waiting LIKE '%gone%'")
		n.ops(0, "rotate status")
		n.exec("SELECT pg_drop_replication_slot('replica')")
		n.until("SELECT count(*) FROM kms_rotations WHERE waiting LIKE 'a replica is gone%'")
		n.ops(0, "rotate status")
		interrupt()
		wait()
		n.next.Set()
		n.says(n.ops(0, run+" --max-lag 5s"), "done") // a new process knows of no replica
	}},
	"the table grows (PostgreSQL)": {on: onPostgres, alone: true, do: func(n *night) {
		const rows = 2000
		n.fill(rows)
		n.ops(0, "rotate init")
		n.exec("CHECKPOINT")
		wal := func() (bytes int64) {
			n.must(n.db.Get(&bytes, "SELECT (pg_current_wal_lsn() - '0/0')::bigint"))
			return bytes
		}
		before := wal()
		n.ops(0, run+" --limit 1000")
		n.ops(0, "rotate pause")
		perRow := float64(wal()-before) / float64(n.at(2))
		n.Logf("%.0f bytes of WAL a row", perRow)
		if perRow < 700 || perRow > 1400 {
			n.Errorf("%.0f bytes of WAL a row", perRow)
		}
		n.exec("VACUUM customers")
		n.ops(0, "rotate resume")
		n.says(n.ops(0, run+" --workers 1 --nice 1"), "done")
	}},
}

// wrapsOther is a provider that wraps some other key than the one it is given, while it is
// confused: every second time.
type wrapsOther struct {
	kmsencrypted.Provider
	is    atomic.Bool
	times atomic.Int64
}

func (p *wrapsOther) Encrypt(ctx context.Context, plaintext []byte, bound kmsencrypted.BoundContext) ([]byte, error) {
	if p.is.Load() && p.times.Add(1)%2 == 0 {
		other := make([]byte, len(plaintext))
		rand.Read(other)
		plaintext = other
	}
	return p.Provider.Encrypt(ctx, plaintext, bound)
}

// withPhone is a customer of the next release.
type withPhone struct {
	ID    int64             `db:"id"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Email field.Of[string]  `db:"email_ciphertext"`
	Phone field.Of[*string] `db:"phone_ciphertext"`
}

// contacts makes the table of contacts, in which a plain column is replaced.
func (n *night) contacts(indexKey byte) {
	n.Helper()
	seedContacts(n.db.DB)
	n.contactsModel(indexKey)
}

func (n *night) contactsModel(indexKey byte) {
	n.models = func(b *kmsencrypted.Box) []field.AnyModel {
		key, err := blindindex.NewMasterKey(bytes.Repeat([]byte{indexKey}, blindindex.KeySize))
		n.must(err)
		m, err := field.NewModel[contact](b, field.Config{Table: "contacts", IndexKey: key})
		n.must(err)
		return []field.AnyModel{m}
	}
}
