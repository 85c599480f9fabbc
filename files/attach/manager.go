package attach

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
)

// Config describes the attachments of a model's records.
type Config struct {
	// One and Many are the names of attachments: a record has at most one file under
	// each name in One, and any number under each in Many. A name must not contain a
	// slash.
	One, Many []string
	// Buckets are the stores of objects by name. Rows refer to these names: keep a
	// bucket listed as long as it holds objects.
	Buckets map[string]Bucket
	// Bucket is the bucket for new files. It may be empty if there is only one.
	Bucket string
	// BucketOf names the buckets for new files of attachments that have another one
	// than Bucket, by the name of the attachment. [Options.Bucket] comes first. Files
	// that exist stay where they are until [Manager.Reencrypt] moves them.
	BucketOf map[string]string
	// Resolve, if not nil, names the bucket for a new file of an attachment, for example
	// by the tenant in ctx: see [files.WithTenant]. [Options.Bucket] comes before it; for
	// "" it is BucketOf and Bucket. A name that is not in Buckets is
	// [kmsencrypted.ErrConfig]. It must be safe for concurrent use. With Resolve a file
	// stays in its bucket when it is encrypted anew, and what is derived from it lies there
	// too.
	Resolve func(ctx context.Context, attachment string) (bucket string, err error)
	// Fallback, if not nil, is called for a bucket that Resolve names and Buckets does not
	// have, and the file goes to the bucket as without Resolve. Log a warning: a tenant's
	// file lies where others lie.
	Fallback func(ctx context.Context, attachment, bucket string)
	// KeyColumn is the key column whose data key wraps the file keys. Empty means the
	// model's first.
	KeyColumn string
	// Elsewhere are attachments of this table that another manager has under another key
	// column. This one leaves their file keys to it: a rotation needs both managers.
	Elsewhere []string
	// MaxSize is the size in bytes of the largest new file; 0 sets no limit. Files that
	// exist and are larger can still be read and encrypted anew.
	MaxSize int64
	// Lease is how long an upload may make no progress, or wait for its Commit, before
	// it counts as given up. 0 means 1 h.
	Lease time.Duration
	// Grace is how long an object is kept after nothing refers to it any more. It must
	// be long enough for downloads under way, and longer than the age of a database
	// backup that may be restored. 0 means 24 h.
	Grace time.Duration
	// PartSize is the number of bytes of a file in each part of an upload in parts (see
	// [Manager.BeginParts]), a multiple of [files.ChunkSize]. Larger files have larger parts, because S3
	// takes at most 10,000. S3 takes no parts of fewer than 5 MiB. 0 means 8 MiB.
	PartSize int64
	// Workers is passed to [files.Options].
	Workers int
	// UnboundKeys accepts file keys that an older release let the key service wrap
	// under an encryption context that does not name the record. Somebody who could
	// write to the database may have moved such a file to another record. It also accepts
	// those that do not name the data key of the record, which may be another record with
	// the primary key of a deleted one. Set it for one run of [Manager.WrapKeys], or until
	// the next rekey, and then no more.
	UnboundKeys bool
	// Recovery, if not nil, wraps each file key a second time, so that the files
	// survive the loss of the database. See [Recovery].
	Recovery *Recovery
}

// Manager attaches files to the records of a model. It is safe for concurrent use;
// a single record is not.
type Manager[R any] struct {
	intents
	model   field.Adapter[R]
	config  Config
	key     string // key column
	columns []string
}

// New returns a manager of the attachments of a model. The model must have a
// primary key and set [field.Config.Files]. New asks the database for the columns
// of the table. The tables of [Tables] must exist before the first upload. The
// manager closes neither db nor the buckets.
//
// New returns [kmsencrypted.ErrConfig] for an invalid configuration.
func New[R any](ctx context.Context, db *sql.DB, d field.Dialect, model *field.Model[R], config Config) (*Manager[R], error) {
	if err := d.Check(); err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	if db == nil {
		return nil, configError("the database is nil")
	}
	if err := model.Adapter().Check(); err != nil {
		return nil, err
	}
	config, err := config.check()
	if err != nil {
		return nil, err
	}
	a := model.Adapter()
	m := &Manager[R]{model: a, config: config, key: config.KeyColumn,
		intents: intents{dialect: d, db: db, buckets: config.Buckets, lease: config.Lease, grace: config.Grace,
			references: "SELECT object FROM kms_attachments WHERE bucket = ? AND object IN "}}
	keys := a.KeyColumns()
	switch {
	case reflect.TypeFor[R]().Kind() != reflect.Struct:
		return nil, configError("the rows of %s are not structs", model.Table())
	case !a.HasFiles():
		return nil, configError("the model of %s does not say that its records have files: set field.Config.Files", model.Table())
	case len(a.IDColumns()) == 0:
		return nil, configError("the model of %s has no primary key", model.Table())
	case m.key == "" && len(keys) > 0:
		m.key = keys[0]
	case !slices.Contains(keys, m.key):
		return nil, configError("no key column %q in %s", m.key, model.Table())
	}
	if config.Recovery != nil {
		unknown := func(int) (kmsencrypted.Provider, error) { return nil, nil } // until there is a record
		if err := checkErasable(a.Box(), unknown); err != nil {
			return nil, err
		}
	}
	if m.columns, err = m.learn(ctx); err != nil {
		return nil, fmt.Errorf("attach: table %s: %w", model.Table(), err)
	}
	return m, nil
}

func (c Config) check() (Config, error) {
	c.One, c.Many, c.Buckets = slices.Clone(c.One), slices.Clone(c.Many), maps.Clone(c.Buckets)
	names := slices.Concat(c.One, c.Many)
	if len(names) == 0 {
		return c, configError("no attachment is named")
	}
	for i, name := range names {
		if name == "" || strings.Contains(name, "/") || slices.Contains(names[:i], name) {
			return c, configError("attachment %q is named twice, empty or has a slash", name)
		}
	}
	if c.Bucket == "" && len(c.Buckets) == 1 {
		for c.Bucket = range c.Buckets {
		}
	}
	if missing.Is(c.Buckets[c.Bucket]) {
		return c, configError("no bucket %q for new files", c.Bucket)
	}
	for name, bucket := range c.BucketOf {
		if !slices.Contains(names, name) || missing.Is(c.Buckets[bucket]) {
			return c, configError("no attachment %q or no bucket %q for it", name, bucket)
		}
	}
	c.BucketOf, c.Elsewhere = maps.Clone(c.BucketOf), slices.Clone(c.Elsewhere)
	for _, name := range c.Elsewhere {
		if slices.Contains(names, name) {
			return c, configError("attachment %q is here and elsewhere", name)
		}
	}
	if c.MaxSize < 0 || c.Lease < 0 || c.Grace < 0 || c.PartSize < 0 {
		return c, configError("a negative size or time")
	}
	if c.PartSize%files.ChunkSize != 0 || c.PartSize > maxPartSize {
		return c, configError("parts of %d bytes: want a multiple of %d up to %d", c.PartSize, files.ChunkSize, maxPartSize)
	}
	c.PartSize = cmp.Or(c.PartSize, defaultPartSize)
	if c.Recovery != nil {
		if err := c.Recovery.check(); err != nil {
			return c, err
		}
		c.Recovery = new(*c.Recovery)
	}
	if c.Lease == 0 {
		c.Lease = time.Hour
	}
	if c.Grace == 0 {
		c.Grace = 24 * time.Hour
	}
	return c, nil
}

// bucketFor returns the bucket for a new file.
func (c Config) bucketFor(ctx context.Context, name string, o Options) (string, error) {
	chosen := o.Bucket
	if chosen == "" && c.Resolve != nil {
		resolved, err := c.Resolve(ctx, name)
		if err != nil {
			return "", fmt.Errorf("attach: bucket of %s: %w", name, err)
		}
		if resolved != "" && c.Fallback != nil && missing.Is(c.Buckets[resolved]) {
			c.Fallback(ctx, name, resolved)
			resolved = ""
		}
		chosen = resolved
	}
	bucket := cmp.Or(chosen, c.BucketOf[name], c.Bucket)
	if missing.Is(c.Buckets[bucket]) {
		return "", configError("no bucket %q", bucket)
	}
	return bucket, nil
}

// staysIn returns the bucket for a new object of a file that exists: a job without the
// tenant in its context must not move it.
func (c Config) staysIn(bucket string) string {
	if c.Resolve == nil {
		return ""
	}
	return bucket
}

// learn lists the columns to read of a record: its primary key, its key column, and
// the plain columns that its encryption context may use.
func (m *Manager[R]) learn(ctx context.Context) ([]string, error) {
	rows, err := m.db.QueryContext(ctx, "SELECT * FROM "+m.dialect.QuotedTable(m.model.Table())+" WHERE 1 = 0")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	existing, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	columns := m.model.IDColumns()
	if m.key != "" {
		columns = append(columns, m.key)
	}
	for _, c := range columns {
		if !slices.Contains(existing, c) {
			return nil, fmt.Errorf("%w: no column %s", kmsencrypted.ErrConfig, c)
		}
	}
	for _, c := range m.model.PlainColumns() {
		if slices.Contains(existing, c) {
			columns = append(columns, c)
		}
	}
	return columns, rows.Err()
}

// load reads a record. lock ends the statement. load returns [sql.ErrNoRows] if
// there is no such record, also where the database takes another text for this primary
// key, as under a collation that ignores case: files belong to a text, and so do data keys.
func (m *Manager[R]) load(ctx context.Context, db Tx, id []string, lock string) (*R, error) {
	row, err := m.find(ctx, db, id, lock)
	if err == nil && !slices.Equal(m.model.ID(row), id) {
		err = fmt.Errorf("attach: the primary key of record %v is another text in table %s: %w", id, m.model.Table(), sql.ErrNoRows)
	}
	if err != nil {
		return nil, err
	}
	return row, nil
}

// recordOf is load for the record of an attachment.
func (m *Manager[R]) recordOf(ctx context.Context, a *Attachment) (*R, error) {
	row, err := m.load(ctx, m.db, a.RecordID, "")
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = fmt.Errorf("attach: the record is gone: Orphans lists its files: %w", err)
	case errors.Is(err, kmsencrypted.ErrMalformed):
		err = fmt.Errorf("attach: row %s of kms_attachments: %w", a.ID, err)
	}
	return row, err
}

// find is load with the database's notion of equal.
func (m *Manager[R]) find(ctx context.Context, db Tx, id []string, lock string) (*R, error) {
	if lock != "" {
		if err := m.checkIsolation(ctx, db); err != nil {
			return nil, err
		}
	}
	row := new(R)
	if err := m.model.SetID(row, id); err != nil {
		return nil, err
	}
	q := m.dialect.Statement("SELECT ")
	q.Names(m.columns)
	q.Add(" FROM ")
	q.Table(m.model.Table())
	q.Where(m.model.IDColumns())
	q.Add(lock)
	rows, err := db.QueryContext(ctx, q.String(), m.model.IDValues(row)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return nil, err
		}
		return nil, sql.ErrNoRows
	}
	if err := m.model.Scan(rows, row); err != nil {
		return nil, err
	}
	return row, rows.Close()
}

// isElsewhere reports whether a file belongs to a manager of another key column.
func (m *Manager[R]) isElsewhere(a *Attachment) bool {
	return slices.Contains(m.config.Elsewhere, a.Name)
}

// Divides implements [field.Divided].
func (m *Manager[R]) Divides() (names, elsewhere []string) {
	if m == nil {
		return nil, nil
	}
	return slices.Concat(m.config.One, m.config.Many), m.config.Elsewhere
}

// KeyColumn returns the column whose data keys wrap the file keys. With
// [Manager.Rotated] it makes the manager a [field.Dependents].
func (m *Manager[R]) KeyColumn() string {
	if m == nil {
		return ""
	}
	return m.key
}
