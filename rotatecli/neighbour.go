package rotatecli

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// neighbourFlags make a run wait for other users of the database. The run waits
// while one of them applies, and shows the reason.
type neighbourFlags struct {
	Nice           float64       `placeholder:"N" help:"Sleep after each batch for N times the time it took; 1 halves the load."`
	MaxLag         time.Duration `placeholder:"TIME" help:"Wait while a replica lags by more than this, such as 5s."`
	ReplicaDSNEnv  string        `name:"replica-dsn-env" placeholder:"NAME" help:"With MariaDB and MySQL: the environment variable with the DSN of the replica to ask for --max-lag. PostgreSQL's primary knows its replicas."`
	MaxConnections int           `placeholder:"N" help:"Wait while the database has more active connections than this."`
	HoldFile       string        `placeholder:"FILE" help:"Wait while this file exists."`
	HoldQuery      string        `placeholder:"SQL" help:"Wait while this query returns a number above 0."`
	Window         window        `placeholder:"22:00-06:00" help:"Wait outside this time of day, in local time."`
	MaxWait        time.Duration `placeholder:"TIME" help:"Stop with exit code 4 after waiting this long. Without it: after a minute and a half for a key service, never for the database."`
}

func (f neighbourFlags) apply(o *rotation.Options, d *Database) error {
	if f.Nice < 0 || f.MaxLag < 0 || f.MaxConnections < 0 || f.MaxWait < 0 {
		return usage("a negative --nice, --max-lag, --max-connections or --max-wait")
	}
	o.Nice, o.MaxWait = f.Nice, f.MaxWait
	add := func(check rotation.Check, err error) error {
		o.Checks = append(o.Checks, check)
		return err
	}
	var errs []error
	if f.MaxLag > 0 {
		replica, err := f.replica(d)
		if err != nil {
			return err
		}
		errs = append(errs, add(sqlstore.LagCheck(replica, d.Dialect, f.MaxLag)))
	}
	if f.MaxConnections > 0 {
		errs = append(errs, add(sqlstore.ConnectionsCheck(d.DB, d.Dialect, f.MaxConnections)))
	}
	if f.HoldFile != "" {
		errs = append(errs, add(rotation.FileCheck(f.HoldFile), nil))
	}
	if f.HoldQuery != "" {
		errs = append(errs, add(sqlstore.QueryCheck(d.DB, "query", f.HoldQuery), nil))
	}
	if f.Window != (window{}) {
		errs = append(errs, add(rotation.WindowCheck(f.Window.from, f.Window.to, time.Local), nil))
	}
	return errors.Join(errs...)
}

// replica is the database to ask for the lag. It stays open for as long as the command.
func (f neighbourFlags) replica(d *Database) (*sql.DB, error) {
	if f.ReplicaDSNEnv == "" {
		if d.Dialect == field.MySQL {
			return nil, usage("--max-lag: only replicas know their lag: name the DSN of one by --replica-dsn-env")
		}
		return d.DB, nil
	}
	dsn := os.Getenv(f.ReplicaDSNEnv)
	if dsn == "" {
		return nil, usage("--replica-dsn-env: the environment variable %s is empty", f.ReplicaDSNEnv)
	}
	return sql.OpenDB(connector{d.DB.Driver(), dsn}), nil
}

// connector opens another database with the driver of the program.
type connector struct {
	driver driver.Driver
	dsn    string
}

func (c connector) Driver() driver.Driver { return c.driver }

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }

// window is a time of day, from and to.
type window struct{ from, to time.Duration }

func (w *window) UnmarshalText(text []byte) error {
	from, to, _ := strings.Cut(string(text), "-")
	var err error
	if w.from, err = clock(from); err == nil {
		w.to, err = clock(to)
	}
	if err != nil || w.from == w.to {
		return errors.New("want two times of a day, such as 22:00-06:00")
	}
	return nil
}

func clock(text string) (time.Duration, error) {
	if strings.TrimSpace(text) == "24:00" {
		return 24 * time.Hour, nil
	}
	t, err := time.Parse("15:04", strings.TrimSpace(text))
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, err
}

// limiter returns the limiter of calls to the current key, for all processes that
// share the database, or nil without a rate. If the tables of rotations are
// missing, it is a limiter of this process.
func (t *table) limiter(ctx context.Context, perSecond float64) (rotation.Limiter, error) {
	switch {
	case perSecond < 0:
		return nil, usage("--kms-rate: it must be above 0")
	case perSecond == 0:
		return nil, nil
	}
	if has, err := t.database.hasLedger(ctx); err != nil || !has {
		return rotation.NewLimiter(perSecond), err
	}
	name := t.info().KeyID
	if name == "" {
		name = t.name
	}
	l, err := sqlstore.NewLimiter(ctx, t.database.DB, t.database.Dialect, name, perSecond)
	if err == nil {
		err = l.SetRate(ctx, perSecond)
	}
	if err != nil {
		return nil, fmt.Errorf("--kms-rate: %w; rotate init creates what is missing", err)
	}
	return l, nil
}

// info returns the key of the current version.
func (t *table) info() kmsencrypted.KeyInfo {
	v, err := t.model.Box().Version(t.model.Box().Current())
	if err != nil {
		return kmsencrypted.KeyInfo{}
	}
	return infoOf(v)
}

// infoOf returns the key of a version. It is the zero value where the key depends on
// the record: see [kmsencrypted.Version].ProviderFor.
func infoOf(v kmsencrypted.Version) kmsencrypted.KeyInfo {
	if v.Provider == nil {
		return kmsencrypted.KeyInfo{}
	}
	return v.Provider.Info()
}

// perRecord stands for the id of such a key.
const perRecord = "chosen for each record"

// prices returns the prices of the current version's key service.
func (t *table) prices() rotation.Prices { return rotation.ListPrices(t.info().Provider) }
