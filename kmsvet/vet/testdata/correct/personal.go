package correct

import (
	"time"

	"github.com/kmsencrypted/kmsencrypted/field"
)

type Person struct {
	ID            int64            `db:"id"`
	Key           field.Key        `db:"encrypted_kms_key"`
	Email         field.Of[string] `db:"email_ciphertext" kms:"migrating=OldEmail"` // ok: encrypted
	OldEmail      string           `db:"email"`                                     // ok: about to go
	Phone         field.Of[string] `db:"phone_ciphertext" kms:"migrated=PlainPhone"`
	PlainPhone    string           `db:"phone"`          // ok: about to go
	EmailVerified bool             `db:"email_verified"` // ok: a bool
	EmailCount    int              `db:"email_count"`    // ok: a number
	AddressID     int64            `db:"address_id"`     // ok: a row of another table
	EmailStatus   string           `db:"email_status"`   // ok: about it
	PhoneHash     []byte           `db:"phone_hash"`     // ok
	PhoneCountry  string           `db:"phone_country"`  // ok
	IPAddress     string           `db:"ip_address"`     // ok: of a machine
	MailServer    string           `db:"mail_server"`    // ok
	EmailedAt     time.Time        `db:"emailed_at"`     // ok
	Company       string           `db:"company"`        // ok: in no list of names
	Typed         string           `db:"-"`              // ok
	TypedEmail    string           `db:"-"`              // ok: not stored
	PublicEmail   string           `db:"public_email"`   //kmsvet:ignore it is on their page // ok
	Passports     int              `db:"passports"`      // ok
}

// Subscriber is stored plain on purpose.
type Subscriber struct {
	Email string `db:"email"` // ok: no encrypted field beside it
}

// node embeds itself.
type node struct {
	*node
	email string           // ok: no database reads it
	Email field.Of[string] `db:"email_ciphertext"` // ok: encrypted
}
