package mistakes

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"strconv"
	"strings"
)

type auditLogger struct{}

func (auditLogger) Infof(format string, args ...any) {}

type jobLog struct{}

func (jobLog) Warn(values ...any) {}

type sugaredLogger interface {
	Warnw(message string, pairs ...any)
}

type refused struct{ Email string }

func (r refused) Error() string { return "refused" }

func logs(ctx context.Context, c *Customer, l *slog.Logger, std *log.Logger, app auditLogger, s sugaredLogger, logf func(string, ...any)) {
	log.Print(c.Email.Must())                                                 // want `goes into a log`
	log.Printf("customer %d: %s", c.ID, c.Email.Must())                       // want `log the record's primary key instead`
	std.Println("phone", c.Phone.Must())                                      // want `goes into a log`
	slog.Info("saved", "email", c.Email.Must())                               // want `goes into a log`
	slog.InfoContext(ctx, "saved", slog.String("email", c.Email.Must()))      // want `goes into a log`
	l.Error("not saved", slog.Group("customer", "born", c.Born.Must()))       // want `goes into a log`
	l.LogAttrs(ctx, slog.LevelInfo, "saved", slog.Any("b", c.Born.Must()))    // want `goes into a log`
	l = l.With("email", c.Email.Must())                                       // want `goes into a log`
	jobLog{}.Warn(c.Email.Must())                                             // want `goes into a log`
	s.Warnw("sent", "to", c.Email.Must())                                     // want `goes into a log`
	app.Infof("sent to %s", c.Email.Must())                                   // want `goes into a log`
	logf("sent to %s", c.Email.Must())                                        // want `goes into a log`
	log.Print("income "+strconv.Itoa(c.Income.Must()), c.Address.Must().City) // want `goes into a log`
	log.Print(c.Address.Must().Street)                                        // want `goes into a log`
	log.Fatalf("%v", c.Notes.Must())                                          // want `goes into a log`
	log.Print(hex.EncodeToString([]byte(c.Email.Must())))                     // want `goes into a log`
	log.Print(base64.StdEncoding.EncodeToString([]byte(c.Email.Must())))      // want `goes into a log`
	log.Print(c.Born.Must().Format("2006"))                                   // want `goes into a log`
	log.Print(c.Email.Must()[1:])                                             // want `goes into a log`
	//kmsvet:ignore
	log.Print(c.Email.Must()) // want `goes into a log`
}

func variables(ctx context.Context, c *Customer) error {
	email, err := c.Email.Get()
	if err != nil {
		return err
	}
	log.Printf("welcome %s", email) // want `goes into a log`
	lower := strings.ToLower(strings.TrimSpace(email))
	slog.Warn("twice", "email", lower) // want `goes into a log`
	text := fmt.Sprintf("%d <%s>", c.ID, lower)
	log.Println(text) // want `goes into a log`
	plain, err := c.Phone.Plain(ctx)
	if err == nil {
		log.Print(*plain) // want `goes into a log`
	}
	var b strings.Builder
	b.WriteString("to ")
	b.WriteString(email)
	log.Print(b.String()) // want `goes into a log`
	var buf bytes.Buffer
	buf.WriteString(email)
	log.Print(buf.String()) // want `goes into a log`
	var all []string
	all = append(all, email)
	log.Print(strings.Join(all, ", ")) // want `goes into a log`
	for _, note := range c.Notes.Must() {
		log.Print(note) // want `goes into a log`
	}
	view := struct{ ID, Email string }{Email: email}
	log.Printf("%+v", view)      // want `goes into a log`
	log.Print("to ", view.Email) // want `goes into a log`
	byID := map[int64]string{}
	byID[c.ID] = email
	log.Print(byID) // want `goes into a log`
	text = "nothing"
	text += email
	log.Print(text)                                   // want `goes into a log`
	defer func() { log.Print("done with ", email) }() // want `goes into a log`
	return nil
}

func faults(c *Customer) (err error) {
	email := c.Email.Must()
	switch {
	case email == "":
		return fmt.Errorf("no customer %q", email) // want `goes into an error`
	case c.ID == 1:
		return errors.New("twice: " + email) // want `name the record's primary key instead`
	case c.ID == 2:
		return errors.Join(err, fmt.Errorf("phone %v of %d", c.Phone.Must(), c.ID)) // want `goes into an error`
	case c.ID == 3:
		return refused{Email: email} // want `goes into an error`
	case c.ID == 4:
		return &refused{email} // want `goes into an error`
	}
	panic("cannot write to " + email) // want `goes into an error`
}

func output(c *Customer, w io.Writer) ([]byte, error) {
	fmt.Println(c.ID, c.Email.Must())                   // want `is printed`
	fmt.Printf("%s\n", c.Email.Must())                  // want `prints \[redacted\]`
	fmt.Fprintln(os.Stderr, "customer", c.Email.Must()) // want `is printed`
	println(c.Email.Must())                             // want `is printed`
	email, _ := c.Email.Get()
	if err := json.NewEncoder(w).Encode(map[string]string{"email": email}); err != nil { // want `becomes JSON`
		return nil, err
	}
	job := struct {
		ID    int64
		Email string
	}{c.ID, email}
	if _, err := json.MarshalIndent(c.Address.Must(), "", " "); err != nil { // want `becomes JSON`
		return nil, err
	}
	return json.Marshal(job) // want `becomes JSON`
}
