package main

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/term"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

func isTerminal(file *os.File) bool { return term.IsTerminal(int(file.Fd())) }

type keygenCmd struct {
	File   string `arg:"" type:"path" help:"The key file, readable by its owner only."`
	Rotate bool   `help:"Add a new key before those in the file; everything wrapped before still opens."`
}

func (keygenCmd) Help() string {
	return `A local key is for development and small installations: who reads the file opens
every record. The key itself is never printed. Examples:

  kmsencrypted keygen keys.txt
  kmsencrypted keygen --rotate keys.txt`
}

func (c *keygenCmd) Run(s *rotatecli.Session) error {
	make, what := local.Create, "made"
	if c.Rotate {
		make, what = local.Rotate, "put a new key in front of those in"
	}
	if _, err := make(c.File); err != nil {
		return err
	}
	fmt.Fprintf(s.Stdout, "%s %s; its key id is local:%s\nkeep a copy where you keep no backup of the database\n", what, c.File, c.File)
	return nil
}

type bidxCmd struct {
	Table      string `required:"" placeholder:"NAME" help:"The table for which the key is derived."`
	Column     string `required:"" placeholder:"NAME" help:"The column of the index, such as email_bidx."`
	Expression string `placeholder:"TEXT" help:"The expression applied to the value first, such as lower, digits or presence+lower."`
	Algorithm  string `placeholder:"NAME" help:"argon2id (the default), argon2i, pbkdf2_sha256, scrypt or hmac_sha256."`
	Slow       bool   `help:"Use the slow parameters of the algorithm."`
	Size       int    `placeholder:"BYTES" help:"The size of the hash, 1 to 32; 32 without it."`
	Bits       int    `placeholder:"N" help:"A truncated index."`
	Legacy     bool   `help:"As blind_index did before version 1.0."`
	Raw        bool   `help:"Keep a newline at the end of the value."`
}

func (bidxCmd) Help() string {
	return `The value comes from standard input, the master key from BLIND_INDEX_MASTER_KEY or
LOCKBOX_MASTER_KEY (64 hex digits). Example:

  printf %s ada@example.org | kmsencrypted bidx --table users --column email_bidx --expression lower`
}

func (c *bidxCmd) Run(s *rotatecli.Session) error {
	options := blindindex.Options{Size: c.Size, Bits: c.Bits, Legacy: c.Legacy}
	var err error
	if c.Algorithm != "" || c.Slow {
		name := c.Algorithm
		if name == "" {
			name = "argon2id"
		}
		if options.Algorithm, err = blindindex.ParseAlgorithm(name, c.Slow); err != nil {
			return err
		}
	}
	if c.Expression != "" {
		if options.Expression, err = blindindex.ParseExpression(c.Expression); err != nil {
			return err
		}
	}
	master, err := blindindex.MasterKeyFromEnv()
	if err != nil {
		return err
	}
	index, err := blindindex.Derive(master, c.Table, c.Column, options)
	if err != nil {
		return err
	}
	value, err := readAll(s.Stdin)
	if err != nil {
		return err
	}
	defer clear(value)
	if !c.Raw {
		value = bytes.TrimSuffix(value, []byte("\n"))
	}
	column, err := index.Compute(string(value))
	if err != nil {
		return err
	}
	if column.IsNull() {
		fmt.Fprintln(s.Stdout, "NULL")
		return nil
	}
	fmt.Fprintln(s.Stdout, column.Text())
	return nil
}
