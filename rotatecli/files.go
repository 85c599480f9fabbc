package rotatecli

import (
	"context"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

type filesCommands struct {
	Restore      filesRestoreCmd `cmd:"" help:"Make the rows of attached files from their sidecars, after the database was lost."`
	WrapRecovery filesWrapCmd    `cmd:"" help:"Give every attached file a recovery wrap at the current version, and write sidecars that are missing."`
}

// recoverable is a manager of attached files that can restore their rows.
type recoverable interface {
	Restore(context.Context, attach.RestoreOptions) (attach.Restored, error)
	WrapRecovery(ctx context.Context, progress func(done int64)) error
}

// eachManager calls do for the managers of the chosen tables.
func (s *Session) eachManager(ctx context.Context, names []string, do func(table string, m recoverable) error) error {
	d, err := s.Database(ctx)
	if err != nil {
		return err
	}
	if _, err := s.some(ctx, names); err != nil { // names a table that there is not
		return err
	}
	found := 0
	for _, model := range d.Models {
		table := model.Dynamic().Table()
		if len(names) > 0 && !slices.Contains(names, table) {
			continue
		}
		for _, dependent := range optionsOf(model).Dependents {
			if m, ok := dependent.(recoverable); ok {
				found++
				if err := do(table, m); err != nil {
					return err
				}
			}
		}
	}
	if found == 0 {
		return usage("the program has no manager of attached files: pass it by rotatecli.With")
	}
	return nil
}

type filesRestoreCmd struct {
	tablesFlag
	List    bool `help:"Also name the files that are not restored."`
	NewKeys bool `help:"Also restore files of records that have another data key than before, or none. Only if no primary key of a deleted record was given to another."`
}

func (filesRestoreCmd) Help() string {
	return `Restore the records first, with the same primary keys. The sidecars are in the
buckets, if Config.Recovery was set when the files were attached. This needs
permission to decrypt under the recovery key. It changes no object, and may be
interrupted and run again. A record with another data key than the file's recovery
wrap names gets nothing without --new-keys, because it may be another record with
the primary key of a deleted one. Exit codes: 0 every file has its row, 2 not so.`
}

func (c *filesRestoreCmd) Run(ctx context.Context, s *Session) error {
	whole := true
	err := s.eachManager(ctx, c.Table, func(table string, m recoverable) error {
		r, err := m.Restore(ctx, attach.RestoreOptions{NewKeys: c.NewKeys, Each: func(f *attach.Recoverable, outcome string, err error) {
			switch {
			case err != nil:
				s.printf("%s  failed  %v\n", table, err)
			case c.List && outcome != "restored" && outcome != "present":
				a := f.Attachment
				s.printf("%s  %s  record %s, %s, object %s in bucket %s\n", table, outcome, strings.Join(a.RecordID, "/"), a.Name, a.Object, a.Bucket)
			}
		}})
		s.printf("%s  %s restored, %s had their rows, %s without a record, %s of another data key, %s superseded, %s not attached, %s without a sidecar, %s failed\n", table,
			things(r.Files, "file"), count(r.Present), count(r.NoRecord), count(r.OtherKey), count(r.Superseded), count(r.Unattached), count(r.NoSidecar), count(r.Failed))
		whole = whole && r.NoRecord == 0 && r.OtherKey == 0 && r.NoSidecar == 0 && r.Failed == 0
		if r.Failed > 0 && ctx.Err() == nil {
			return nil // each is printed
		}
		return err
	})
	if err == nil && !whole {
		return exit{ExitFailures}
	}
	return err
}

type filesWrapCmd struct{ tablesFlag }

func (filesWrapCmd) Help() string {
	return `For files that were attached before Config.Recovery was set, or by a release
without it, and after the recovery key got a new current version. It needs
permission to decrypt the records, and to encrypt under the recovery key.`
}

func (c *filesWrapCmd) Run(ctx context.Context, s *Session) error {
	return s.eachManager(ctx, c.Table, func(table string, m recoverable) error {
		var done int64
		err := m.WrapRecovery(ctx, func(n int64) { done = n })
		s.printf("%s  %s looked at\n", table, things(done, "file"))
		return err
	})
}
