package activerecord_test

import (
	"fmt"
	"log"

	"github.com/kmsencrypted/kmsencrypted/activerecord"
)

// A column that Rails wrote with encrypts :email, deterministic: true.
func Example() {
	rails, err := activerecord.New(activerecord.Config{
		DeterministicKey: activerecord.Password("XqaPLiy4n6LzteueYEz3knVNsstNSfwo"),
		Salt:             "35lYarb6VgAJAKvbJ6Uwqti24n7UdUfz",
	})
	if err != nil {
		log.Fatal(err)
	}
	email, err := rails.Attribute(activerecord.Scheme{Deterministic: true})
	if err != nil {
		log.Fatal(err)
	}
	text, err := email.Decrypt([]byte(`{"p":"oDo4rYyQ5BlRp4+zS/T0jpA=","h":{"iv":"FVEXThj4gO/+Ulil","at":"rGtBJ4MHVaM6CRo80NBdEQ=="}}`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", text.Bytes())

	columns, err := email.Lookup(activerecord.UTF8("alice@example.org"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("WHERE email IN ('%s')\n", columns[0])
	// Output:
	// alice@example.org
	// WHERE email IN ('{"p":"oDo4rYyQ5BlRp4+zS/T0jpA=","h":{"iv":"FVEXThj4gO/+Ulil","at":"rGtBJ4MHVaM6CRo80NBdEQ=="}}')
}
