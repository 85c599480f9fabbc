package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// maxInput limits the input of encrypt and decrypt.
const maxInput = 16 << 20

// boxFlags select the key of encrypt and decrypt.
type boxFlags struct {
	Key     string            `placeholder:"ID" help:"The key, such as alias/app, vault/app or local:keys.txt. Without it: the versions of the configuration file."`
	Context map[string]string `arg:"" optional:"" name:"name=value" mapsep:"none" help:"The encryption context: public, and the same for both directions."`
}

func (f boxFlags) context() kmsencrypted.EncryptionContext {
	ec := kmsencrypted.Context{}
	for name, value := range f.Context {
		ec[name] = value
	}
	return ec
}

// box opens the key, as one version of a format, or the versions of the file.
func (f boxFlags) box(ctx context.Context, g *grammar, s *rotatecli.Session, version int, format string) (*kmsencrypted.Box, error) {
	if f.Key == "" {
		c, err := readConfig(g.Config)
		if err != nil {
			return nil, err
		}
		return boxes{c, g.logger(s.Stderr), g.Verbose}.box(ctx, c.versionsConfig)
	}
	provider, err := s.OpenKey(ctx, f.Key)
	if err != nil {
		return nil, err
	}
	c := kmsencrypted.Config{
		Current:  version,
		Versions: map[int]kmsencrypted.Version{version: {Provider: provider, Format: formats[format]}},
		Logger:   g.logger(s.Stderr),
	}
	if g.Verbose {
		c.Observer = kmsencrypted.LogEvents(c.Logger)
	}
	return c.Box()
}

type encryptCmd struct {
	boxFlags
	Format string `enum:"native,ruby" default:"native" help:"With --key: ${enum}."`
	Number int    `name:"as-version" default:"1" placeholder:"N" help:"With --key: the number of the version."`
	Trim   bool   `help:"Remove one newline at the end."`
}

func (encryptCmd) Help() string {
	return `The plaintext comes from standard input, never from the command line, where others
would see it. Examples:

  printf %s "$TOKEN" | kmsencrypted encrypt --key vault/app purpose=webhook tenant=acme
  kmsencrypted encrypt --trim purpose=webhook < token.txt > token.enc`
}

func (c *encryptCmd) Run(ctx context.Context, s *rotatecli.Session, g *grammar) error {
	box, err := c.box(ctx, g, s, c.Number, c.Format)
	if err != nil {
		return err
	}
	plaintext, err := readAll(s.Stdin)
	if err != nil {
		return err
	}
	defer clear(plaintext)
	if c.Trim {
		plaintext = bytes.TrimSuffix(bytes.TrimSuffix(plaintext, []byte("\n")), []byte("\r"))
	}
	column, err := box.Encrypt(ctx, plaintext, c.context())
	if err != nil {
		return err
	}
	fmt.Fprintln(s.Stdout, column)
	return nil
}

type decryptCmd struct {
	boxFlags
	Value string `placeholder:"TEXT" help:"The ciphertext. Without it: standard input."`
}

func (decryptCmd) Help() string {
	return `The plaintext goes to standard output as it is, without a newline. Example:

  kmsencrypted decrypt --key vault/app purpose=webhook tenant=acme < token.enc`
}

func (c *decryptCmd) Run(ctx context.Context, s *rotatecli.Session, g *grammar) error {
	column := c.Value
	if column == "" {
		data, err := readAll(s.Stdin)
		if err != nil {
			return err
		}
		column = string(data)
	}
	column = strings.TrimSpace(column)
	if column == "" {
		return fmt.Errorf("%w: nothing to decrypt", rotatecli.ErrUsage)
	}
	box, err := c.box(ctx, g, s, kmsencrypted.ColumnVersion(column), rotatecli.Inspect(column).Format)
	if err != nil {
		return err
	}
	plaintext, err := box.Decrypt(ctx, column, c.context())
	if err != nil {
		return err
	}
	defer clear(plaintext)
	_, err = s.Stdout.Write(plaintext)
	return err
}

var errTooLong = errors.New("standard input is longer than 16 MiB")

func readAll(r io.Reader) ([]byte, error) {
	if file, ok := r.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Size() == 0 && isTerminal(file) {
			fmt.Fprintln(os.Stderr, "reading standard input; end it with Ctrl-D")
		}
	}
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = errTooLong
	}
	return data, err
}
