CREATE TABLE customers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    encrypted_kms_key TEXT,
    email_ciphertext TEXT,
    born_ciphertext TEXT,
    email_bidx TEXT
);
