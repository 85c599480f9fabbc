-- name: CreateCustomer :one
INSERT INTO customers (name) VALUES (?) RETURNING id;

-- name: UpdateCustomer :execrows
UPDATE customers
SET encrypted_kms_key = sqlc.narg(key), email_ciphertext = sqlc.narg(email), born_ciphertext = sqlc.narg(born), email_bidx = sqlc.narg(email_bidx)
WHERE id = sqlc.arg(id) AND encrypted_kms_key IS sqlc.narg(key_before);

-- name: GetCustomer :one
SELECT * FROM customers WHERE id = ?;

-- name: ListCustomers :many
SELECT * FROM customers ORDER BY id LIMIT ?;

-- name: FindCustomers :many
SELECT * FROM customers WHERE email_bidx IN (sqlc.slice(email_bidx));
