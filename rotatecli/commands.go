package rotatecli

import "github.com/alecthomas/kong"

// Commands is the grammar of every program.
type Commands struct {
	Version     kong.VersionFlag `help:"Print the version of the library, and of Go, and exit."`
	Rotate      RotateCommands   `cmd:"" help:"Move all records to the current version of their key."`
	Files       filesCommands    `cmd:"" help:"Attached files: restore their rows from the buckets."`
	Branch      branchCommands   `cmd:"" help:"Branch keys: list, renew, rotate, erase them, and repeat erasures after a restore."`
	Versions    versionsCmd      `cmd:"" help:"Versions of keys: list them, count the records at each, and check whether one may be retired."`
	Inspect     inspectCmd       `cmd:"" help:"Say what an encrypted value is, without decrypting it."`
	Open        openCmd          `cmd:"" help:"Open one value of one record for a reason, with a receipt."`
	Audit       auditCommands    `cmd:"" help:"Receipts of opened values: verify them."`
	Inventory   inventoryCmd     `cmd:"" help:"What is encrypted, under which key, and what it leaks."`
	Check       checkCmd         `cmd:"" help:"Compare the models with the live schema."`
	Policy      policyCmd        `cmd:"" help:"Print the least rights that a role needs at a key service or in the database."`
	Tables      tablesCmd        `cmd:"" help:"Print the SQL of the tables that the library keeps its own state in, or create them."`
	Doctor      doctorCmd        `cmd:"" help:"Test the key services: encrypt, decrypt, context, and what they log."`
	UI          uiCmd            `cmd:"" name:"ui" help:"Show the runs, versions, key services and the inventory on a page in the browser."`
	ContextHash contextHashCmd   `cmd:"" help:"Compute the hash of an encryption context as in Vault's audit log."`
	Completion  completionCmd    `cmd:"" help:"Print a completion script for bash, zsh or fish."`
	Complete    completeCmd      `cmd:"" name:"__complete" hidden:"" passthrough:""`
}

// RotateCommands are the subcommands of "rotate".
type RotateCommands struct {
	Init         initCmd         `cmd:"" help:"Create the tables for the state of rotations."`
	Plan         planCmd         `cmd:"" help:"Say what a run would do. Writes nothing and calls no key service."`
	Run          runCmd          `cmd:"" help:"Rotate until nothing is left. May be stopped and run again at any time."`
	Status       statusCmd       `cmd:"" help:"Show the progress."`
	Pause        pauseCmd        `cmd:"" help:"Pause the unfinished runs, in all processes."`
	Resume       resumeCmd       `cmd:"" help:"Make paused runs active again; then call \"rotate run\" again."`
	Cancel       cancelCmd       `cmd:"" help:"End the unfinished runs for good. What was written stays."`
	Verify       verifyCmd       `cmd:"" help:"Open the records and count their versions. Only reads."`
	Cost         costCmd         `cmd:"" help:"Estimate requests, price, time, and the size of logs."`
	History      historyCmd      `cmd:"" help:"List earlier runs."`
	Heal         healCmd         `cmd:"" help:"Mend what a rotation or a foreign writer left that does not open, with the keys of the journal."`
	ClearJournal clearJournalCmd `cmd:"" help:"Erase the replaced wrapped keys of runs that were verified."`
}

// tablesFlag selects tables.
type tablesFlag struct {
	Table []string `short:"t" placeholder:"NAME" help:"Only this table; may be repeated. Without it: all."`
}

// partFlags select a part of the tables.
type partFlags struct {
	Where  string `placeholder:"SQL" help:"Only the records for which this SQL condition holds."`
	Tenant string `placeholder:"VALUE" help:"Only the records of this tenant: with this value in the column tagged context, or COLUMN=VALUE where several are. A part never counts for retiring a version."`
}

// rotationFlags are the flags of plan and run.
type rotationFlags struct {
	tablesFlag
	partFlags
	To      int     `placeholder:"N" help:"The version to move to, as a check: it must be the current one."`
	Kind    string  `enum:"rewrap,rekey,migrate,reindex,complete,first-key" default:"rewrap" help:"What to do: ${enum}."`
	KMSRate float64 `name:"kms-rate" placeholder:"N" help:"Calls to the key service a second, for all processes that share the database; also changes the rate of a running rotation. Without it: no limit."`
}
