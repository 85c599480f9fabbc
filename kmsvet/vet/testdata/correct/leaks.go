package correct

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"net/http"
	"os"
	"strings"
)

func mask(text string) string { return text[:1] + "***" }

type refused struct{ ID int64 }

func (r refused) Error() string { return "refused" }

type form struct{ Email string }

type Catalog struct{}

type Login struct{}

func (Login) Error(values ...any) {}

func (Catalog) Print(values ...any) {}

func logs(ctx context.Context, c *Customer, l *slog.Logger, catalog Catalog) {
	log.Print(c.ID)                                            // ok: the primary key
	log.Printf("customer %d: %v", c.ID, c.Email)               // ok: a field prints [redacted]
	log.Printf("%+v", c)                                       // ok: so does a record
	slog.Info("saved", "id", c.ID, "email", c.Email)           // ok
	slog.Info("saved", slog.Any("customer", c))                // ok
	l.With("customer", c.ID).InfoContext(ctx, "saved")         // ok
	log.Print(len(c.Email.Must()))                             // ok: the length
	log.Print(mask(c.Email.Must()))                            // ok: what a function of the program makes of it
	log.Print(c.Email.Must()[:2] + "…")                        // ok: masked
	log.Print(strings.Contains(c.Email.Must(), "@"))           // ok: a bool
	log.Print(c.Email.Must() == c.Name)                        // ok: a bool
	log.Print(len(c.Notes.Must()), c.Email.IsNull())           // ok
	log.Printf("%x", sha256.Sum256([]byte(c.Email.Must())))    // ok: not the value
	log.Print(strings.Count(c.Email.Must(), ".") > 1)          // ok
	Login{}.Error(c.Email.Must())                              // ok: no logger
	catalog.Print(c.Email.Must())                              // ok: no logger
	log.Print(c.Born.Must().IsZero(), math.Log(float64(c.ID))) // ok
	log.Print(c.Email.Must())                                  //kmsvet:ignore a tool for one machine // ok
	//kmsvet:ignore the line below shows it on purpose
	log.Print(c.Email.Must()) // ok
	if c.Active.Must() {
		log.Print("active") // ok: not the value itself
	}
}

func variables(c *Customer) error {
	email, err := c.Email.Get()
	if err != nil {
		return fmt.Errorf("customer %d: %w", c.ID, err) // ok: the error names no value
	}
	masked := mask(email)
	log.Print(masked) // ok
	view := struct {
		ID    int64
		Email string
	}{c.ID, "none"}
	view.Email = email
	log.Print(view.ID) // ok: another part of it
	asked := form{Email: email}
	asked.Email = ""
	log.Print(asked) // ok: emptied
	email = mask(email)
	log.Print("sent to ", email) // ok: it holds something else now
	domain := email[strings.IndexByte(email, '@')+1 : len(email)]
	log.Print(domain) // ok: a part
	for i := range c.Notes.Must() {
		log.Print(i) // ok: the number
	}
	user, _, _ := strings.Cut(c.Email.Must(), "@")
	_ = user
	var b strings.Builder
	b.WriteString(c.Name)
	log.Print(b.String()) // ok
	return nil
}

func faults(c *Customer) error {
	email := c.Email.Must()
	switch {
	case email == "":
		return fmt.Errorf("customer %d has no email", c.ID) // ok
	case !strings.Contains(email, "@"):
		return errors.New("not an address") // ok
	case c.ID == 1:
		return fmt.Errorf("email %v", c.Email) // ok: [redacted]
	case c.ID == 2:
		return refused{c.ID} // ok
	}
	panic(fmt.Sprint("unknown customer ", c.ID)) // ok
}

func output(c *Customer, w io.Writer, r http.ResponseWriter) ([]byte, error) {
	fmt.Println(c.ID, c.Email)                                       // ok: [redacted]
	fmt.Fprintf(w, "To: %s\r\n", c.Email.Must())                     // ok: a mail, which needs it
	fmt.Fprintln(os.Stderr, "customer", c.ID)                        // ok
	message := fmt.Sprintf("Dear %s", c.Email.Must())                // ok: it goes nowhere yet
	if err := json.NewEncoder(r).Encode(form{message}); err != nil { // ok: the answer to a user
		return nil, err
	}
	return json.Marshal(c) // ok: [redacted]
}

func send(c *Customer, mail func(to string) error) error {
	return mail(c.Email.Must()) // ok: a function of the program
}

func queue(c *Customer) ([]byte, error) {
	return json.Marshal(struct{ ID int64 }{c.ID}) // ok
}
