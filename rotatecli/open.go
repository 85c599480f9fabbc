package rotatecli

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"reflect"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted/audit"
	"github.com/kmsencrypted/kmsencrypted/field"
)

type openCmd struct {
	Table  string `short:"t" required:"" placeholder:"NAME" help:"The table of the record."`
	ID     string `required:"" placeholder:"ID" help:"Its primary key; compound ones with a comma between the parts."`
	Column string `required:"" placeholder:"NAME" help:"The encrypted column to show."`
	Reason string `required:"" placeholder:"TEXT" help:"Why, such as the number of a ticket. It is logged."`
	Reveal bool   `help:"Show the value. Without it: its first character and its length, if it has eight or more."`
	Viewer string `placeholder:"NAME" help:"Who looks. Without it: the user of this machine."`
}

func (openCmd) Help() string {
	return `Opens one value of one record, for a reason. Before that it writes a receipt to kms_audits,
and does nothing if that fails or the viewer has opened too many. The receipt is printed to standard error: put it
into the ticket. Example:

  open --table customers --id 7 --column email_ciphertext --reason T-4711 --reveal`
}

// ledger returns the ledger of the program.
func (s *Session) ledger(ctx context.Context) (*audit.Ledger, error) {
	d, err := s.Database(ctx)
	if err == nil && d.Ledger == nil {
		err = usage("this program has no key for receipts: set Database.Ledger, or audit in the file")
	}
	if err != nil {
		return nil, err
	}
	return d.Ledger, nil
}

func (c *openCmd) Run(ctx context.Context, s *Session) error {
	ledger, err := s.ledger(ctx)
	if err != nil {
		return err
	}
	tables, err := s.some(ctx, []string{c.Table})
	if err != nil {
		return err
	}
	t := tables[0]
	if !slices.ContainsFunc(t.model.Inventory(), func(p field.Protected) bool { return p.Kind == "value" && p.Column == c.Column }) {
		return usage("%s has no encrypted column %s", c.Table, c.Column)
	}
	row, err := t.stored(ctx, c.ID, c.Column)
	if err != nil {
		return err
	}
	receipt, err := audit.Open(ctx, ledger, t.model.Model, &row, c.entry(s.name))
	if receipt != (audit.Receipt{}) {
		fmt.Fprintf(s.Stderr, "receipt %s\n", receipt)
	}
	if err != nil {
		return err
	}
	value, err := t.model.Plaintext(c.Column, &row)
	if err != nil {
		return err
	}
	text := textOfPlaintext(value)
	if !c.Reveal && value != nil {
		text = masked(text)
	}
	s.printf("%s\n", text)
	return nil
}

// entry says who looks. A viewer that was named does not hide the user of the machine.
func (c *openCmd) entry(program string) audit.Entry {
	e := audit.Entry{Viewer: c.Viewer, Fields: []string{c.Column}, Place: program + " open", Reason: c.Reason}
	if c.Reveal {
		e.Place += " --reveal"
	}
	if user := userOfMachine(); e.Viewer == "" {
		e.Viewer = user
	} else {
		e.Place += " by " + user
	}
	return e
}

func userOfMachine() string {
	name := "uid " + fmt.Sprint(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// stored reads what it takes to open one column of a record, and opens nothing.
func (t *table) stored(ctx context.Context, id, column string) (any, error) {
	q, err := t.byID(id, t.neededBy(column))
	if err != nil {
		return nil, err
	}
	rows, err := t.database.DB.QueryContext(ctx, q.String(), q.Args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return nil, err
		}
		return nil, t.noRecord(id)
	}
	row := reflect.New(t.model.RowType()).Interface()
	return row, t.model.Scan(rows, &row)
}

// neededBy returns the column, its key and parts, the column that it replaces, and the plain ones,
// which a context may have. No other encrypted column is among them, so none is opened.
func (t *table) neededBy(column string) []string {
	columns := slices.Concat(t.model.IDColumns(), t.model.PlainColumns(), []string{column})
	if key := t.model.KeyColumnOf(column); key != "" {
		columns = append(columns, key)
	}
	for _, p := range t.model.Inventory() {
		if p.Kind == "part" && slices.Contains(p.Of, column) {
			columns = append(columns, p.Column)
		}
	}
	for _, r := range t.model.Replacements() {
		if r.Column == column {
			columns = append(columns, r.Old)
		}
	}
	slices.Sort(columns)
	return slices.Compact(columns)
}

// textOfPlaintext formats a value of any type of a field.
func textOfPlaintext(value any) string {
	switch v := value.(type) {
	case nil:
		return "NULL"
	case string:
		return v
	case []byte:
		if !utf8.Valid(v) {
			return hex.EncodeToString(v)
		}
		return string(v)
	case fmt.Stringer:
		return v.String()
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// masked shows the first character and the length of a text of eight or more. Of a shorter one,
// such as a number or true and false, the length would say too much.
func masked(text string) string {
	n := utf8.RuneCountInString(text)
	first, _ := utf8.DecodeRuneInString(text)
	switch {
	case n < 8:
		return "••• (--reveal shows it)"
	case !unicode.IsPrint(first):
		first = '•'
	}
	return fmt.Sprintf("%c••• (%d characters; --reveal shows it)", first, n)
}

// auditCommands are the subcommands of "audit".
type auditCommands struct {
	Verify auditVerifyCmd `cmd:"" help:"Check that no receipt was removed or changed."`
}

type auditVerifyCmd struct {
	Receipts []string `arg:"" optional:"" name:"receipt" help:"Receipts that must be there, as open printed them."`
}

func (auditVerifyCmd) Help() string {
	return `Reads all receipts of kms_audits. It prints the last one: keep it outside the database and give it
next time, because nothing else tells that the newest receipts were removed. Exit codes: 0 all are there, 2 not so.`
}

func (c *auditVerifyCmd) Run(ctx context.Context, s *Session) error {
	ledger, err := s.ledger(ctx)
	if err != nil {
		return err
	}
	var known []audit.Receipt
	for _, text := range c.Receipts {
		r, err := audit.ParseReceipt(text)
		if err != nil {
			return usage("%s", oneLine(err))
		}
		known = append(known, r)
	}
	last, err := ledger.Verify(ctx, known...)
	switch {
	case err != nil:
		return err
	case last == audit.Receipt{}:
		s.printf("no receipts\n")
	default:
		s.printf("%s in order, the last is %s\n", things(last.Number, "receipt"), last)
	}
	return nil
}
