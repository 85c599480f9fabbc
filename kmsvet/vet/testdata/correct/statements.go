package correct

import (
	"context"
	"fmt"
	"log"

	"github.com/kmsencrypted/kmsencrypted"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

const setEmail = "UPDATE customers SET email_ciphertext = $1 WHERE id = $2 AND encrypted_kms_key = $3"

func (s *store) updates(ctx context.Context, c *Customer) error {
	result, err := s.db.ExecContext(ctx, setEmail, c.Email, c.ID, c.Key) // ok
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return kmsencrypted.ErrConflict
	}
	if _, err := s.db.Exec("UPDATE customers SET name = ? WHERE id = ?", c.Name, c.ID); err != nil { // ok: a plain column
		return err
	}
	if _, err := s.db.Exec("UPDATE customers SET name = 'a' WHERE email_ciphertext IS NULL"); err != nil { // ok: it only asks
		return err
	}
	if _, err := s.db.Exec("UPDATE customers SET email_ciphertext = NULL WHERE id = ?", c.ID); err != nil { // ok: NULL needs no key
		return err
	}
	if _, err := s.db.Exec("UPDATE visits SET email_ciphertext = ? WHERE id = ?", "x", 1); err != nil { // ok: another table
		return err
	}
	if _, err := s.db.Query("SELECT email_ciphertext FROM customers WHERE name = ?", c.Name); err != nil { // ok
		return err
	}
	if _, err := s.db.Exec("DELETE FROM customers WHERE id = ?", c.ID); err != nil { // ok
		return err
	}
	log.Print("UPDATE customers SET email_ciphertext = $1 WHERE id = $2") // ok: nobody runs it
	if err := kmssqlx.Update(ctx, s.x, s.customers, c); err != nil {      // ok
		return err
	}
	result, err = s.x.NamedExec("UPDATE customers SET email_ciphertext = :email_ciphertext WHERE id = :id AND encrypted_kms_key = :encrypted_kms_key", c) // ok
	if err != nil {
		return err
	}
	_, err = result.RowsAffected()
	prepared, prepareErr := s.db.Prepare("UPDATE customers SET born_ciphertext = ? WHERE id = ? AND encrypted_kms_key = ?") // ok
	if prepareErr != nil {
		return prepareErr
	}
	prepared.Close()
	return err
}

func (s *store) inserts(ctx context.Context, c *Customer, args []any) error {
	if _, err := s.db.Exec("INSERT INTO customers (id, name, encrypted_kms_key, email_ciphertext) VALUES (?, ?, ?, ?)", c.ID, c.Name, c.Key, c.Email); err != nil { // ok
		return err
	}
	if _, err := s.db.Exec("INSERT INTO customers (name) VALUES (?)", c.Name); err != nil { // ok: nothing encrypted
		return err
	}
	if _, err := s.db.Exec("INSERT INTO customers (name, email_ciphertext) VALUES (?, NULL)", c.Name); err != nil { // ok
		return err
	}
	if _, err := s.db.Exec("INSERT INTO customers (encrypted_kms_key, email_ciphertext) VALUES ($1, $2)", args...); err != nil { // ok: the arguments are not known
		return err
	}
	if _, err := s.db.Exec("INSERT INTO customers VALUES (?, ?, ?, ?, ?)", c.ID, c.Name, c.Key, c.Email, c.Phone); err != nil { // ok: the columns are not known
		return err
	}
	if _, err := s.db.Exec("INSERT INTO customers (id, encrypted_kms_key, email_ciphertext) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING", c.ID, c.Key, c.Email); err != nil { // ok
		return err
	}
	if _, err := s.db.Exec("INSERT INTO customers (id, name, encrypted_kms_key, email_ciphertext) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET name = excluded.name", c.ID, c.Name, c.Key, c.Email); err != nil { // ok: the row keeps both
		return err
	}
	return kmssqlx.Insert(ctx, s.x, s.customers, c) // ok
}

func (s *store) ofAdapter(c *Customer) (columns []string, err error) {
	w, err := s.customers.Adapter().Write(c) // ok: both are looked at
	for _, a := range w.Set {
		columns = append(columns, a.Column)
	}
	columns = append(columns, "UPDATE customers SET …")
	for _, a := range w.Where {
		columns = append(columns, fmt.Sprint(a.Column, " IS NOT DISTINCT FROM ?"))
	}
	return columns, err
}

func (s *store) insertsWritten(c *Customer) (query string, err error) {
	w, err := s.customers.Adapter().Write(c) // ok: a new row has no condition
	query = "INSERT INTO customers ("
	for _, a := range w.Set {
		query += a.Column + ","
	}
	return query, err
}

func (s *store) passedOn(c *Customer, update func(any) error) error {
	w, err := s.customers.Adapter().Write(c) // ok: somebody else looks
	if err != nil || len(w.Set) == 0 {
		return err
	}
	log.Print("UPDATE ", len(w.Set))
	return update(w)
}

func (s *store) changed(c *Customer) (bool, error) {
	w, err := s.customers.Adapter().Write(c) // ok: nothing is written
	return len(w.Where) > 0, err
}
