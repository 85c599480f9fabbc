// Command mvs is a user's program: it encrypts a field and has libraries of its
// own that this module knows too. CI looks at which versions of these a program
// gets that had older ones before.
package main

import (
	"context"
	"fmt"
	"log"

	_ "github.com/jackc/pgx/v5"
	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	_ "go.opentelemetry.io/otel"
	_ "google.golang.org/grpc"
	_ "gorm.io/gorm"
)

type customer struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

func main() {
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		log.Fatal(err)
	}
	m, err := field.NewModel[customer](box, field.Config{Table: "customers"})
	if err != nil {
		log.Fatal(err)
	}
	c := customer{ID: 7, Email: field.New("ada@example.org")}
	if err := m.Seal(context.Background(), &c); err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Email)
}
