package mistakes

import (
	"io"
	"net/http"
)

func (s *store) show(w http.ResponseWriter, r *http.Request) {
	var c Customer
	if err := s.x.GetContext(r.Context(), &c, "SELECT * FROM customers WHERE id = $1", r.PathValue("id")); err != nil {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	io.WriteString(w, c.Email.Must()) // want `Must panics here, because nothing has opened c`
}

func (s *store) scanned(w http.ResponseWriter, r *http.Request) {
	c := Customer{}
	row := s.db.QueryRowContext(r.Context(), "SELECT id, encrypted_kms_key, email_ciphertext FROM customers LIMIT 1")
	if err := row.Scan(&c.ID, &c.Key, &c.Email); err != nil {
		return
	}
	if c.Email.IsNull() {
		return
	}
	io.WriteString(w, c.Email.Must()) // want `call Open of the model before`
}

func (s *store) list(w http.ResponseWriter, r *http.Request) {
	var all []Customer
	if err := s.x.Select(&all, "SELECT * FROM customers"); err != nil {
		return
	}
	for _, c := range all {
		io.WriteString(w, c.Email.Must()) // want `nothing has opened c`
	}
	io.WriteString(w, all[0].Email.Must()) // want `nothing has opened all`
}

func (s *store) late(w http.ResponseWriter, r *http.Request) {
	c := new(Customer)
	if s.x.Get(c, "SELECT * FROM customers LIMIT 1") != nil {
		return
	}
	email := c.Email.Must() // want `answer its error`
	if s.customers.Open(r.Context(), c) != nil {
		return
	}
	io.WriteString(w, email)
}

func (s *store) mux() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &Customer{}
		if s.x.Get(c, "SELECT * FROM customers LIMIT 1") == nil {
			io.WriteString(w, *c.Phone.Must()) // want `nothing has opened c`
		}
	})
}
