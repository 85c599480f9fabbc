package field_test

import (
	"context"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// Member is a record whose column email moves to an encrypted one. While the field is
// tagged migrating, the old column is read and both are written.
type Member struct {
	ID       int64            `db:"id"`
	Key      field.Key        `db:"encrypted_kms_key"`
	OldEmail string           `db:"email"`
	Email    field.Of[string] `db:"email_ciphertext" kms:"migrating=OldEmail"`
}

// readMember returns a row as the database would. The columns are NULL for nil.
func readMember(oldEmail string, key, email any) (m Member) {
	m.ID, m.OldEmail = 7, oldEmail
	check(m.Key.Scan(key))
	check(m.Email.Scan(email))
	return m
}

// A record is migrated if both columns have the same value.
func ExampleModel_Migrated() {
	ctx := context.Background()
	box, err := kmsencrypted.NewBox(testkey.New())
	check(err)
	members, err := field.NewModel[Member](box, field.Config{Table: "members"})
	check(err)

	m := readMember("ada@example.org", nil, nil) // the new column was never written
	check(members.Open(ctx, &m))
	fmt.Println(m.Email.Must(), members.Migrated(&m))

	check(members.Seal(ctx, &m)) // then the row is written
	key, email := valueOf(m.Key.Value()), valueOf(m.Email.Value())
	m = readMember("ada@example.org", key, email)
	check(members.Open(ctx, &m))
	fmt.Println(m.Email.Must(), members.Migrated(&m))

	m = readMember("countess@example.org", key, email) // an old program changed the old column
	check(members.Open(ctx, &m))
	fmt.Println(m.Email.Must(), members.Migrated(&m))
	// Output:
	// ada@example.org false
	// ada@example.org true
	// countess@example.org false
}
