package mistakes

import (
	"database/sql"
	"time"

	"github.com/kmsencrypted/kmsencrypted/field"
)

type Person struct {
	ID             int64            `db:"id"`
	Key            field.Key        `db:"encrypted_kms_key"`
	Note           field.Of[string] `db:"note_ciphertext"`
	Email          string           `db:"email"`                       // want `Email looks like personal data`
	WorkEmail      *string          `db:"work_email"`                  // want `beside the encrypted Note`
	PhoneNumber    string           `db:"phone_number"`                // want `make it a field.Of`
	MobilePhone    sql.NullString   `db:"mobile_phone"`                // want `MobilePhone looks like`
	SSN            string           `db:"ssn"`                         // want `SSN looks like`
	IBAN           []byte           `db:"iban"`                        // want `IBAN looks like`
	Birthday       time.Time        `db:"birthday"`                    // want `Birthday looks like`
	DateOfBirth    sql.NullTime     `db:"date_of_birth"`               // want `DateOfBirth looks like`
	HomeAddress    string           `db:"home_address"`                // want `HomeAddress looks like`
	AddressLine1   string           `db:"address_line_1"`              // want `AddressLine1 looks like`
	PassportNo     string           `db:"passport_no"`                 // want `PassportNo looks like`
	BillingStreet  string           `db:"billing_street"`              // want `BillingStreet looks like`
	CardNumber     string           `db:"card_number"`                 // want `CardNumber looks like`
	LastName       sql.Null[string] `db:"last_name"`                   // want `LastName looks like`
	EmailAddress   string           `db:"email_address" kms:"context"` // want `EmailAddress looks like`
	PrivateAddress string           `db:"private_address"`             // want `PrivateAddress looks like`
}
