package main

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"go.yaml.in/yaml/v3"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/audit"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// config is the configuration file. Unknown fields are refused, so that a
// misspelt one is not silently ignored.
type config struct {
	Database       databaseConfig `yaml:"database"`
	versionsConfig `yaml:",inline"`
	AllowInsecure  bool                      `yaml:"allow_insecure,omitempty"`
	Branches       map[string]branchesConfig `yaml:"branches,omitempty"` // by the name that versions have
	Audit          *auditConfig              `yaml:"audit,omitempty"`
	Tables         []tableConfig             `yaml:"tables"`
}

// auditConfig describes the receipts of "open".
type auditConfig struct {
	Key     string        `yaml:"key"`               // 64 hex digits, with ${VARIABLE}
	Records int           `yaml:"records,omitempty"` // that a viewer may open
	Per     time.Duration `yaml:"per,omitempty"`
}

// apply makes the ledger of a Database.
func (c *auditConfig) apply(d *rotatecli.Database) (err error) {
	if c == nil {
		return nil
	}
	key, err := hex.DecodeString(c.Key)
	defer clear(key)
	if err != nil || len(key) != audit.KeySize {
		return fmt.Errorf("%w: audit.key: want %d hex digits", kmsencrypted.ErrConfig, 2*audit.KeySize)
	}
	d.Ledger, err = audit.NewLedger(d.DB, d.Dialect, key, audit.Limit{Records: c.Records, Per: c.Per})
	return err
}

// versionsConfig describes a Box.
type versionsConfig struct {
	Current  int                   `yaml:"current"`
	Minimum  int                   `yaml:"minimum,omitempty"`
	Versions map[int]versionConfig `yaml:"versions"`
}

type databaseConfig struct {
	Driver string `yaml:"driver"` // postgres, mysql or sqlite
	DSN    string `yaml:"dsn"`    // with ${VARIABLE}
}

// versionConfig describes a version.
type versionConfig struct {
	Key                 string   `yaml:"key,omitempty"`      // id of the key, with ${VARIABLE}
	Branches            string   `yaml:"branches,omitempty"` // instead of a key
	Format              string   `yaml:"format,omitempty"`
	Context             template `yaml:"context,omitempty"`
	RecordSeal          bool     `yaml:"record_seal,omitempty"`
	OmitID              bool     `yaml:"omit_id,omitempty"`
	AllowIgnoredContext bool     `yaml:"allow_ignored_context,omitempty"`
}

// tableConfig describes a table. A table without columns can be rewrapped, but
// not rekeyed.
type tableConfig struct {
	Table       string         `yaml:"table"`
	As          string         `yaml:"as,omitempty"`
	Name        string         `yaml:"name,omitempty"`
	ID          []string       `yaml:"id,omitempty"`
	Keys        []keyConfig    `yaml:"keys,omitempty"`
	Columns     []columnConfig `yaml:"columns,omitempty"`
	Independent []string       `yaml:"independent,omitempty"`
	Context     template       `yaml:"context,omitempty"`
}

type keyConfig struct {
	Column string `yaml:"column"`
	Name   string `yaml:"name,omitempty"`
	As     string `yaml:"as,omitempty"`
}

type columnConfig struct {
	Column string `yaml:"column"`
	Type   string `yaml:"type,omitempty"`
	Tag    string `yaml:"tag,omitempty"` // as in a struct's kms tag
}

// readConfig reads a file and refuses unknown fields.
func readConfig(path string) (*config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: file %s does not exist; \"kmsencrypted schema\" prints one for a database", kmsencrypted.ErrConfig, path)
	}
	if err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	var c config
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, kmsencrypted.ErrConfig, err)
	}
	if err := d.Decode(new(any)); err != io.EOF {
		return nil, fmt.Errorf("%s: %w: more than one document", path, kmsencrypted.ErrConfig)
	}
	if err := c.expand(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &c, nil
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expand replaces environment variables in keys and passwords. A variable that is
// not set is an error, not an empty text.
func (c *config) expand() error {
	mistakes := []error{expand("database.dsn", &c.Database.DSN), c.versionsConfig.expand("")}
	if c.Audit != nil {
		mistakes = append(mistakes, expand("audit.key", &c.Audit.Key))
	}
	for name, b := range c.Branches {
		mistakes = append(mistakes, b.expand("branches."+name+"."))
		c.Branches[name] = b
	}
	return errors.Join(mistakes...)
}

// expand does that for the versions of a Box, which are below a place in the file.
func (c versionsConfig) expand(place string) error {
	var mistakes []error
	for n, v := range c.Versions {
		if v.Branches == "" {
			mistakes = append(mistakes, expand(fmt.Sprintf("%sversions.%d.key", place, n), &v.Key))
			c.Versions[n] = v
		}
	}
	return errors.Join(mistakes...)
}

func expand(where string, text *string) (err error) {
	*text, err = expanded(where, *text)
	return err
}

func expanded(where, text string) (string, error) {
	var err error
	result := variable.ReplaceAllStringFunc(text, func(match string) string {
		name := variable.FindStringSubmatch(match)[1]
		value, ok := os.LookupEnv(name)
		if !ok {
			err = fmt.Errorf("%w: %s: the environment variable %s is not set", kmsencrypted.ErrConfig, where, name)
		}
		return value
	})
	if err == nil && result == "" {
		err = fmt.Errorf("%w: %s is empty", kmsencrypted.ErrConfig, where)
	}
	return result, err
}

func (c databaseConfig) open() (*sql.DB, field.Dialect, error) {
	dialect := field.Dialect(c.Driver)
	if c.Driver == "mariadb" {
		dialect = field.MySQL
	}
	if dialect.Check() != nil {
		return nil, "", fmt.Errorf("%w: database.driver %q: want postgres, mysql or sqlite", kmsencrypted.ErrConfig, c.Driver)
	}
	db, err := sql.Open(dialect.DriverName(), c.DSN)
	if err != nil {
		// The text of a driver's error may quote the DSN, with its password.
		return nil, "", fmt.Errorf("%w: database.dsn is not a DSN of %s", kmsencrypted.ErrConfig, c.Driver)
	}
	return db, dialect, nil
}

// boxes makes Boxes of a configuration file.
type boxes struct {
	*config
	logger  *slog.Logger
	verbose bool
}

// box returns the Box of some versions.
func (b boxes) box(ctx context.Context, c versionsConfig) (*kmsencrypted.Box, error) {
	config := kmsencrypted.Config{
		Current: c.Current, MinVersion: c.Minimum, AllowInsecure: b.AllowInsecure,
		Versions: make(map[int]kmsencrypted.Version), Logger: b.logger,
	}
	if b.verbose {
		config.Observer = kmsencrypted.LogEvents(b.logger)
	}
	for n, v := range c.Versions {
		version, err := b.version(ctx, v)
		if err != nil {
			return nil, fmt.Errorf("version %d: %w", n, err)
		}
		config.Versions[n] = version
	}
	return config.Box()
}

var formats = map[string]kmsencrypted.Format{"": kmsencrypted.Native, "native": kmsencrypted.Native, "ruby": kmsencrypted.Ruby}

func (b boxes) version(ctx context.Context, v versionConfig) (kmsencrypted.Version, error) {
	format, ok := formats[v.Format]
	if !ok {
		return kmsencrypted.Version{}, fmt.Errorf("%w: format %q: want native or ruby", errFile, v.Format)
	}
	provider, err := b.provider(ctx, v)
	if errors.Is(err, errFile) {
		return kmsencrypted.Version{}, err
	}
	return kmsencrypted.Version{
		Provider: rotatecli.OrAbsent(cmp.Or(v.Key, v.Branches), provider, err), Format: format, Context: v.Context.function(),
		RecordSeal: v.RecordSeal, OmitID: v.OmitID, AllowIgnoredContext: v.AllowIgnoredContext,
	}, nil
}

func (b boxes) provider(ctx context.Context, v versionConfig) (kmsencrypted.Provider, error) {
	if v.Branches == "" {
		return providers.Open(ctx, v.Key)
	}
	if v.Key != "" {
		return nil, fmt.Errorf("%w: key and branches exclude each other", errFile)
	}
	return b.branches(ctx, v.Branches)
}

// database opens everything that the commands use.
func (c *config) database(ctx context.Context, logger *slog.Logger, verbose bool) (*rotatecli.Database, error) {
	box, err := boxes{c, logger, verbose}.box(ctx, c.versionsConfig)
	if err != nil {
		return nil, err
	}
	db, dialect, err := c.Database.open()
	if err != nil {
		return nil, err
	}
	d := &rotatecli.Database{DB: db, Dialect: dialect}
	if err := c.Audit.apply(d); err != nil {
		db.Close()
		return nil, err
	}
	var mistakes []error
	var contexts []template
	for _, v := range c.Versions {
		contexts = append(contexts, v.Context)
	}
	for _, t := range c.Tables {
		model, err := t.model(ctx, db, dialect, box, contexts)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		d.Models = append(d.Models, rotatecli.With(model, sqlstore.Options{Independent: t.Independent}))
	}
	if err := errors.Join(mistakes...); err != nil {
		db.Close()
		return nil, err
	}
	return d, nil
}

func (g *grammar) logger(w io.Writer) *slog.Logger {
	level := slog.LevelWarn
	if g.Verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
