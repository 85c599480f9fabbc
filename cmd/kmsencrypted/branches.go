package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// errFile is for mistakes in the file, as opposed to a key store or key service that is away.
var errFile = fmt.Errorf("%w: the file", kmsencrypted.ErrConfig)

// branchesConfig describes branch keys: where they are kept, which branch a record has, and the
// versions that wrap them.
type branchesConfig struct {
	Database       *databaseConfig `yaml:"database,omitempty"`  // or
	Directory      string          `yaml:"directory,omitempty"` // or the database of the records
	Receipts       string          `yaml:"receipts,omitempty"`  // file
	Of             []string        `yaml:"of,omitempty"`        // pairs of the context: the branch, or its parent and it
	Single         string          `yaml:"single,omitempty"`    // one branch for all records
	versionsConfig `yaml:",inline"`
}

func (c *branchesConfig) expand(place string) error {
	mistakes := []error{c.versionsConfig.expand(place)}
	if c.Database != nil {
		mistakes = append(mistakes, expand(place+"database.dsn", &c.Database.DSN))
	}
	for name, path := range map[string]*string{"directory": &c.Directory, "receipts": &c.Receipts} {
		if *path != "" {
			mistakes = append(mistakes, expand(place+name, path))
		}
	}
	return errors.Join(mistakes...)
}

// branches opens branch keys by their name in the file.
func (b boxes) branches(ctx context.Context, name string) (kmsencrypted.Provider, error) {
	c, ok := b.Branches[name]
	if !ok {
		return nil, fmt.Errorf("%w has no branches named %q", errFile, name)
	}
	of, err := c.of()
	if err != nil {
		return nil, err
	}
	for _, v := range c.Versions {
		if v.Branches != "" {
			return nil, fmt.Errorf("%w: branches.%s: a version of it needs a key: branches are nested by of: [PARENT, NAME]", errFile, name)
		}
	}
	store, err := c.store(b.Database)
	if err != nil {
		return nil, err
	}
	options := branch.Options{Of: of}
	if c.Receipts != "" {
		if options.Receipts, err = branch.OpenReceipts(c.Receipts); err != nil {
			return nil, err
		}
	}
	box, err := b.box(ctx, c.versionsConfig)
	if err != nil {
		return nil, fmt.Errorf("branches.%s: %w", name, err)
	}
	return branch.Open(ctx, store, box, options)
}

func (c branchesConfig) of() (branch.NameFunc, error) {
	switch {
	case c.Single != "" && len(c.Of) == 0:
		return branch.Single(c.Single), nil
	case c.Single == "" && len(c.Of) == 1:
		return branch.ByPair(c.Of[0]), nil
	case c.Single == "" && len(c.Of) == 2:
		return branch.ByPairs(c.Of[0], c.Of[1]), nil
	}
	return nil, fmt.Errorf("%w: branches need single: NAME, or of: with one pair of the context or two", errFile)
}

// store opens the key store, in a pool of its own, which ends with the process.
func (c branchesConfig) store(records databaseConfig) (branch.Store, error) {
	place, err := c.database(records)
	switch {
	case err != nil:
		return nil, err
	case c.Directory != "":
		return branch.OpenDir(c.Directory)
	}
	db, dialect, err := place.open()
	if err != nil {
		return nil, err
	}
	return branch.NewSQL(db, dialect)
}

// database returns the one of the key store, unless that is in a directory.
func (c branchesConfig) database(records databaseConfig) (databaseConfig, error) {
	switch {
	case c.Directory != "" && c.Database != nil:
		return records, fmt.Errorf("%w: branches are kept in a database or a directory, not in both", errFile)
	case c.Database != nil:
		return *c.Database, nil
	}
	return records, nil
}
