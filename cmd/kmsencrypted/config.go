package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"go.yaml.in/yaml/v3"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// config is the configuration file. Unknown fields are refused, so that a
// misspelt one is not silently ignored.
type config struct {
	Database      databaseConfig        `yaml:"database"`
	Current       int                   `yaml:"current"`
	Minimum       int                   `yaml:"minimum,omitempty"`
	AllowInsecure bool                  `yaml:"allow_insecure,omitempty"`
	Versions      map[int]versionConfig `yaml:"versions"`
	Tables        []tableConfig         `yaml:"tables"`
}

type databaseConfig struct {
	Driver string `yaml:"driver"` // postgres, mysql or sqlite
	DSN    string `yaml:"dsn"`    // with ${VARIABLE}
}

// versionConfig describes a version.
type versionConfig struct {
	Key                 string   `yaml:"key"` // id of the key, with ${VARIABLE}
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
	var err error
	c.Database.DSN, err = expanded("database.dsn", c.Database.DSN)
	mistakes := []error{err}
	for n, v := range c.Versions {
		v.Key, err = expanded(fmt.Sprintf("versions.%d.key", n), v.Key)
		c.Versions[n] = v
		mistakes = append(mistakes, err)
	}
	return errors.Join(mistakes...)
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

// box returns the Box of all tables.
func (c *config) box(ctx context.Context, logger *slog.Logger, verbose bool) (*kmsencrypted.Box, error) {
	b := kmsencrypted.Config{
		Current: c.Current, MinVersion: c.Minimum, AllowInsecure: c.AllowInsecure,
		Versions: make(map[int]kmsencrypted.Version), Logger: logger,
	}
	if verbose {
		b.Observer = kmsencrypted.LogEvents(logger)
	}
	for n, v := range c.Versions {
		version, err := v.version(ctx)
		if err != nil {
			return nil, fmt.Errorf("version %d: %w", n, err)
		}
		b.Versions[n] = version
	}
	return b.Box()
}

var formats = map[string]kmsencrypted.Format{"": kmsencrypted.Native, "native": kmsencrypted.Native, "ruby": kmsencrypted.Ruby}

func (v versionConfig) version(ctx context.Context) (kmsencrypted.Version, error) {
	format, ok := formats[v.Format]
	if !ok {
		return kmsencrypted.Version{}, fmt.Errorf("%w: format %q: want native or ruby", kmsencrypted.ErrConfig, v.Format)
	}
	provider, err := providers.Open(ctx, v.Key)
	provider = rotatecli.OrAbsent(v.Key, provider, err)
	return kmsencrypted.Version{
		Provider: provider, Format: format, Context: v.Context.function(),
		RecordSeal: v.RecordSeal, OmitID: v.OmitID, AllowIgnoredContext: v.AllowIgnoredContext,
	}, nil
}

// database opens everything that the commands use.
func (c *config) database(ctx context.Context, logger *slog.Logger, verbose bool) (*rotatecli.Database, error) {
	box, err := c.box(ctx, logger, verbose)
	if err != nil {
		return nil, err
	}
	db, dialect, err := c.Database.open()
	if err != nil {
		return nil, err
	}
	d := &rotatecli.Database{DB: db, Dialect: dialect}
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
