package rotatecli

// Commands is the grammar that every program has.
type Commands struct {
	Rotate      RotateCommands `cmd:"" help:"Move all records to the current version of their key."`
	Versions    versionsCmd    `cmd:"" help:"Versions of keys: what is listed, what the records use, what may go."`
	Inspect     inspectCmd     `cmd:"" help:"Say what an encrypted value is, without decrypting it."`
	Check       checkCmd       `cmd:"" help:"Compare the models with the live schema."`
	Tables      tablesCmd      `cmd:"" help:"Print the SQL of the tables that the library keeps its own state in, or create them."`
	Doctor      doctorCmd      `cmd:"" help:"Try the key services: encrypt, decrypt, context, and what they will log."`
	ContextHash contextHashCmd `cmd:"" help:"Compute what stands for an encryption context in Vault's audit log."`
	Completion  completionCmd  `cmd:"" help:"Print a completion script for bash, zsh or fish."`
	Complete    completeCmd    `cmd:"" name:"__complete" hidden:"" passthrough:""`
}

// RotateCommands are the verbs of "rotate".
type RotateCommands struct {
	Init         initCmd         `cmd:"" help:"Create the tables in which the state of rotations lies."`
	Plan         planCmd         `cmd:"" help:"Say what a run would do. Writes nothing and calls no key service."`
	Run          runCmd          `cmd:"" help:"Rotate until nothing is left. May be stopped and called again at any time."`
	Status       statusCmd       `cmd:"" help:"Say where things stand."`
	Pause        pauseCmd        `cmd:"" help:"Pause the unfinished runs, in all processes."`
	Resume       resumeCmd       `cmd:"" help:"Let paused runs go on; \"rotate run\" then has to be called again."`
	Cancel       cancelCmd       `cmd:"" help:"End the unfinished runs for good. What was written stays."`
	Verify       verifyCmd       `cmd:"" help:"Open the records and count their versions. Only reads."`
	Cost         costCmd         `cmd:"" help:"Estimate requests, price, time, and what logs and database write."`
	History      historyCmd      `cmd:"" help:"List the runs there were."`
	Heal         healCmd         `cmd:"" help:"After a rekey: mend columns that a foreign writer left under the old data key."`
	ClearJournal clearJournalCmd `cmd:"" help:"Erase the replaced wrapped keys of runs that were verified."`
}

// tablesFlag chooses tables.
type tablesFlag struct {
	Table []string `short:"t" placeholder:"NAME" help:"Only this table; may be repeated. Without it: all."`
}

// rotationFlags are those of plan and run.
type rotationFlags struct {
	tablesFlag
	To      int     `placeholder:"N" help:"The version to move to, as a check: it must be the current one."`
	Kind    string  `enum:"rewrap,rekey,migrate,reindex,complete" default:"rewrap" help:"What to do: ${enum}."`
	KMSRate float64 `name:"kms-rate" placeholder:"N" help:"Calls to the key service a second, for all processes that share the database; changes that of a run that goes on. Without it: no bound."`
}
