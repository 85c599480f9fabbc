package mistakes

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted/field"
)

const setEmail = "UPDATE customers SET email_ciphertext = $1 WHERE id = $2"

func (s *store) updates(ctx context.Context, c *Customer, email string) error {
	if _, err := s.db.ExecContext(ctx, setEmail, c.Email, c.ID); err != nil { // want `add AND encrypted_kms_key`
		return err
	}
	if _, err := s.db.Exec("UPDATE customers SET name = ?, phone_ciphertext = ? WHERE id = ?", c.Name, c.Phone, c.ID); err != nil { // want `writes phone_ciphertext although`
		return err
	}
	if _, err := s.x.NamedExec(`UPDATE "public"."customers" AS c SET "email_ciphertext" = :email_ciphertext WHERE c.id = :id`, c); err != nil { // want `or use Update`
		return err
	}
	if _, err := s.db.Exec("UPDATE customers SET email_ciphertext = ? WHERE id = ? AND encrypted_kms_key = ?", email, c.ID, c.Key); err != nil { // want `writes a plaintext into it`
		return err
	}
	if _, err := s.db.Exec("UPDATE customers SET email_ciphertext = '' WHERE id = ? AND encrypted_kms_key = ?", c.ID, c.Key); err != nil { // want `column email_ciphertext of Customer is encrypted`
		return err
	}
	if _, err := s.db.Exec("UPDATE customers SET email_ciphertext = name WHERE name <> ''"); err != nil { // want `writes email_ciphertext although`
		return err
	}
	if _, err := s.db.Exec("UPDATE customers SET email_ciphertext = ? WHERE id = ? AND encrypted_kms_key = ?", c.Email, c.ID, c.Key); err != nil { // want `look at RowsAffected`
		return err
	}
	s.db.Exec("UPDATE customers SET phone_ciphertext = $1 WHERE id = $2 AND encrypted_kms_key = $3", c.Phone, c.ID, c.Key) // want `nobody notices`
	prepared, err := s.db.PrepareContext(ctx, "UPDATE customers SET born_ciphertext = ? WHERE id = ?")                     // want `data key of the row may have changed`
	if err != nil {
		return err
	}
	return prepared.Close()
}

func (s *store) inserts(c *Customer, email string, income int) error {
	if _, err := s.db.Exec("INSERT INTO customers (id, email_ciphertext) VALUES (?, ?)", c.ID, c.Email); err != nil { // want `without the key column encrypted_kms_key`
		return err
	}
	if _, err := s.db.Exec("INSERT INTO customers (id, encrypted_kms_key, email_ciphertext) VALUES (?, ?, ?)", c.ID, c.Key, email); err != nil { // want `pass the field itself`
		return err
	}
	if _, err := s.db.Exec("INSERT INTO customers (id, encrypted_kms_key, email_ciphertext) VALUES ($1, $2, 'ada@example.org')", c.ID, c.Key); err != nil { // want `writes a plaintext`
		return err
	}
	if _, err := s.db.Exec("INSERT INTO customers (encrypted_kms_key, income_ciphertext) VALUES ($2, $1)", income, c.Key); err != nil { // want `column income_ciphertext of Customer`
		return err
	}
	if _, err := s.db.Exec("INSERT INTO customers (id, encrypted_kms_key, born_ciphertext) VALUES (?, ?, ?)", c.ID, c.Key, c.Born.Must()); err != nil { // want `writes a plaintext`
		return err
	}
	_, err := s.db.Exec("INSERT INTO customers (id, encrypted_kms_key, email_ciphertext) VALUES (?, ?, ?) "+ // want `keeps the old data key, under which it does not open`
		"ON CONFLICT (id) DO UPDATE SET email_ciphertext = excluded.email_ciphertext", c.ID, c.Key, c.Email)
	return err
}

func (s *store) ofAdapter(c *Customer) error {
	w, err := s.customers.Adapter().Write(c) // want `compare every column of Where`
	if err != nil {
		return err
	}
	set, args := "", []any{}
	for _, a := range w.Set {
		set += ", " + a.Column + " = ?"
		args = append(args, a.Value)
	}
	_, err = s.db.Exec("UPDATE customers SET "+set[2:]+" WHERE id = ?", append(args, c.ID)...)
	return err
}

func (s *store) ofAdapterLocked(c *Customer) error {
	adapter := s.customers.Adapter()
	written, err := adapter.Write(c, "name") // want `written.Where is ignored`
	if err != nil || written.Key != field.KeyKept {
		return err
	}
	for i := range written.Set {
		if _, err := s.db.Exec(`update customers set `+written.Set[i].Column+` = $1 where id = $2`, written.Set[i].Value, c.ID); err != nil {
			return err
		}
	}
	return nil
}
