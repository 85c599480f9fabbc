package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

type createBranchesCmd struct {
	Name     string        `arg:"" help:"As under branches in the file."`
	MaxAge   time.Duration `default:"1m" help:"How long a process may use a branch key after it opened it (${default})."`
	StaleFor time.Duration `help:"How much longer while the key service is away; none without it."`
}

func (createBranchesCmd) Help() string {
	return `Makes the tables or the directory of the key store, and the file of its receipts if one is
named. What exists stays as it is, with the limits that it has. No branch key is made. Example:

  kmsencrypted create-branches tenants`
}

func (c *createBranchesCmd) Run(ctx context.Context, s *rotatecli.Session, g *grammar) error {
	file, err := readConfig(g.Config)
	if err != nil {
		return err
	}
	branches, ok := file.Branches[c.Name]
	if !ok {
		return fmt.Errorf("%w has no branches named %q", errFile, c.Name)
	}
	if err := branches.create(ctx, file.Database, branch.Limits{MaxAge: c.MaxAge, StaleFor: c.StaleFor}); err != nil {
		return err
	}
	store, err := branches.store(file.Database)
	if err != nil {
		return err
	}
	state, _, err := store.Read(ctx, branch.Name{})
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Stdout, "key store %s, a key is used for at most %s, and %s more while the key service is away\n", state.ID, state.Limits.MaxAge, state.Limits.StaleFor)
	if branches.Receipts == "" {
		return nil
	}
	switch _, err := branch.CreateReceipts(ctx, branches.Receipts, store); {
	case errors.Is(err, fs.ErrExist):
		if _, err = branch.OpenReceipts(branches.Receipts); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	fmt.Fprintf(s.Stdout, "receipts of erasures in %s\n", branches.Receipts)
	return nil
}

// create makes the key store, unless it exists.
func (c branchesConfig) create(ctx context.Context, records databaseConfig, limits branch.Limits) error {
	place, err := c.database(records)
	if err != nil {
		return err
	}
	if c.Directory != "" {
		if _, err := branch.CreateDir(c.Directory, limits); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	}
	db, dialect, err := place.open()
	if err != nil {
		return err
	}
	defer db.Close()
	return branch.CreateTables(ctx, db, dialect, limits)
}
