package correct

import (
	"io"
	"net/http"

	"github.com/kmsencrypted/kmsencrypted/field"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func (s *store) show(w http.ResponseWriter, r *http.Request) {
	var c Customer
	if s.x.GetContext(r.Context(), &c, "SELECT * FROM customers WHERE id = $1", r.PathValue("id")) != nil || s.customers.Open(r.Context(), &c) != nil {
		return
	}
	io.WriteString(w, c.Email.Must()) // ok: opened
}

func (s *store) byAdapter(w http.ResponseWriter, r *http.Request) {
	var c Customer
	if kmssqlx.Get(r.Context(), s.x, s.customers, &c, "SELECT * FROM customers LIMIT 1") == nil {
		io.WriteString(w, c.Email.Must()) // ok: the adapter opens
	}
}

func (s *store) list(w http.ResponseWriter, r *http.Request) {
	var all []Customer
	if s.x.Select(&all, "SELECT * FROM customers") != nil || s.customers.Open(r.Context(), field.Pointers(all)...) != nil {
		return
	}
	for _, c := range all {
		io.WriteString(w, c.Email.Must()) // ok
	}
}

func (s *store) load(r *http.Request) (c Customer, err error) {
	err = kmssqlx.Get(r.Context(), s.x, s.customers, &c, "SELECT * FROM customers LIMIT 1")
	return c, err
}

func (s *store) loaded(w http.ResponseWriter, r *http.Request) {
	c, err := s.load(r)
	if err == nil {
		io.WriteString(w, c.Email.Must()) // ok: a function has read it
	}
}

func (s *store) helped(w http.ResponseWriter, r *http.Request, fill func(*Customer) error) {
	var c Customer
	if fill(&c) == nil {
		io.WriteString(w, c.Email.Must()) // ok: so here
	}
}

func (s *store) parameter(w http.ResponseWriter, c *Customer) {
	io.WriteString(w, c.Email.Must()) // ok: the caller has opened it
}

func (s *store) set(w http.ResponseWriter, r *http.Request) {
	var c Customer
	c.Email.Set(r.FormValue("email"))
	io.WriteString(w, c.Email.Must()) // ok: set
	d := Customer{Email: field.New("x")}
	io.WriteString(w, d.Email.Must()) // ok: set
}

func (s *store) got(w http.ResponseWriter, r *http.Request) {
	var c Customer
	if s.x.Get(&c, "SELECT * FROM customers LIMIT 1") != nil {
		return
	}
	if email, err := c.Email.Get(); err == nil { // ok: Get says so
		io.WriteString(w, email)
	}
}

func closed(s *store) string {
	var c Customer
	if s.x.Get(&c, "SELECT * FROM customers LIMIT 1") != nil {
		return ""
	}
	return c.Name // ok: a plain field
}
