package rotation_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// A record that cannot be moved does not stop the others. Failures names it and the
// reason, and no value.
func ExampleRotator_Failures() {
	ctx := context.Background()
	db, rotator, closeAll := fivePatientsOf(ctx, rotation.Rekey)
	defer closeAll()
	_, err := db.ExecContext(ctx, "UPDATE patients SET name_ciphertext = 'Ada' WHERE id = 3") // plaintext
	check(err)

	result, err := rotator.Run(ctx)
	check(err)
	fmt.Println(result.Written, "written")
	failures, err := rotator.Failures(ctx, 0)
	check(err)
	for _, f := range failures {
		fmt.Println(f.Record, f.Class)
	}
	// Output:
	// 4 written
	// id=3 not-ciphertext
}

// A program that does not compare the key column wrote an old value back during a
// rekey. Heal opens it with the replaced key in the journal, and seals it again.
func ExampleRotator_Heal() {
	ctx := context.Background()
	db, rotator, closeAll := fivePatientsOf(ctx, rotation.Rekey)
	defer closeAll()
	var old string
	check(db.QueryRowContext(ctx, "SELECT name_ciphertext FROM patients WHERE id = 3").Scan(&old))
	run, err := rotator.Run(ctx)
	check(err)
	_, err = db.ExecContext(ctx, "UPDATE patients SET name_ciphertext = ? WHERE id = 3", old)
	check(err)

	before, err := rotator.Verify(ctx, rotation.VerifyOptions{})
	check(err)
	fmt.Println(len(before.Failures), errors.Is(before.Failures[0].Err, kmsencrypted.ErrOtherDataKey))
	healing, err := rotator.Heal(ctx, run.Run, rotation.HealOptions{})
	check(err)
	after, err := rotator.Verify(ctx, rotation.VerifyOptions{})
	check(err)
	fmt.Println(healing.Mended, "mended,", len(after.Failures), "left")
	// Output:
	// 1 true
	// 1 mended, 0 left
}

// The journal keeps the replaced keys until a noted verification was clean. Then
// they can be erased.
func ExampleRotator_ClearJournal() {
	ctx := context.Background()
	_, rotator, closeAll := fivePatientsOf(ctx, rotation.Rekey)
	defer closeAll()
	_, err := rotator.Run(ctx)
	check(err)

	erase := func() {
		n, err := rotator.ClearJournal(ctx, 0) // in production: weeks
		check(err)
		fmt.Println(n, "erased")
	}
	erase()
	_, err = rotator.Verify(ctx, rotation.VerifyOptions{Note: true})
	check(err)
	erase()
	// Output:
	// 0 erased
	// 5 erased
}
