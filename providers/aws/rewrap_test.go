package aws_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
)

type customer struct {
	ID    int64            `db:"id" kms:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext" kms:"lockbox"`
}

func customers(t *testing.T, current int, versions map[int]kmsencrypted.Version) *field.Model[customer] {
	t.Helper()
	box, err := kmsencrypted.Config{Current: current, Versions: versions}.Box()
	must(t, err)
	m, err := field.NewModel[customer](box, field.Config{Table: "customers", Name: "Customer"})
	must(t, err)
	return m
}

func byTenant(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
	return kmsencrypted.Context{"tenant": "acme"}, nil
}

// stored is a record as it comes out of the database.
func stored(t *testing.T, c customer) customer {
	t.Helper()
	key, err := c.Key.Value()
	must(t, err)
	email, err := c.Email.Value()
	must(t, err)
	read := customer{ID: c.ID}
	must(t, read.Key.Scan(key))
	must(t, read.Email.Scan(email))
	return read
}

// TestModelRewrapStaysInside: the plaintext of a data key leaves the service only
// where another binding has to be committed to.
func TestModelRewrapStaysInside(t *testing.T) {
	t.Parallel()
	const records = 20
	for name, tt := range map[string]struct {
		format  kmsencrypted.Format
		context kmsencrypted.ContextFunc // of the new version
		denied  bool
		want    map[string]int
	}{
		"Ruby":                        {kmsencrypted.Ruby, nil, false, map[string]int{"ReEncrypt": records}},
		"Ruby, another context":       {kmsencrypted.Ruby, byTenant, false, map[string]int{"ReEncrypt": records}},
		"native":                      {kmsencrypted.Native, nil, false, map[string]int{"ReEncrypt": records}},
		"native, another context":     {kmsencrypted.Native, byTenant, false, map[string]int{"Decrypt": records, "Encrypt": records}},
		"native, ReEncrypt is denied": {kmsencrypted.Native, nil, true, map[string]int{"ReEncrypt": 1, "Decrypt": records, "Encrypt": records}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			versions := map[int]kmsencrypted.Version{
				1: {Provider: open(t, s, s.AddKey("old"), aws.Options{}), Format: tt.format},
				2: {Provider: open(t, s, s.AddKey("new"), aws.Options{}), Format: tt.format, Context: tt.context},
			}
			before, after := customers(t, 1, versions), customers(t, 2, versions)
			if tt.denied { // one worker, so that one call finds out
				box, err := kmsencrypted.Config{Current: 2, Concurrency: 1, Versions: versions}.Box()
				must(t, err)
				after, err = field.NewModel[customer](box, field.Config{Table: "customers", Name: "Customer"})
				must(t, err)
			}
			rows := make([]customer, records)
			for i := range rows {
				rows[i] = customer{ID: int64(i + 1), Email: field.New(fmt.Sprintf("%d@example.org", i))}
			}
			must(t, before.Seal(t.Context(), field.Pointers(rows)...))
			for i := range rows {
				rows[i] = stored(t, rows[i])
			}
			if tt.denied {
				s.Inject(awskms.Fault{Op: "ReEncrypt", Error: "AccessDeniedException"})
			}
			told := len(s.Calls())
			must(t, after.Rewrap(t.Context(), field.Pointers(rows)...))
			got := make(map[string]int)
			for _, call := range s.Calls()[told:] {
				got[call.Op]++
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("a rewrap of %d records makes the calls %v, want %v", records, got, tt.want)
			}
			// The record goes on as it is, though its key may never have come here.
			must(t, after.Open(t.Context(), &rows[0]))
			if email, err := rows[0].Email.Get(); err != nil || email != "0@example.org" {
				t.Errorf("email of the rewrapped record itself = %q, %v", email, err)
			}
			rows[1].Email.Set("1@example.org")
			must(t, after.Seal(t.Context(), &rows[1]))
			for i := range rows {
				row := stored(t, rows[i])
				if version, _ := row.Key.Version(); version != 2 {
					t.Errorf("record %d is at version %d, want 2", row.ID, version)
				}
				must(t, after.Open(t.Context(), &row))
				if email, err := row.Email.Get(); err != nil || email != fmt.Sprintf("%d@example.org", i) {
					t.Errorf("email of record %d = %q, %v", row.ID, email, err)
				}
			}
		})
	}
}

// TestModelRewrapFindsBadRows: a wrap that does not open stays as it was, and
// the others are moved.
func TestModelRewrapFindsBadRows(t *testing.T) {
	t.Parallel()
	s := start(t)
	versions := map[int]kmsencrypted.Version{
		1: {Provider: open(t, s, s.AddKey("old"), aws.Options{}), Format: kmsencrypted.Ruby},
		2: {Provider: open(t, s, s.AddKey("new"), aws.Options{}), Format: kmsencrypted.Ruby},
	}
	rows := make([]customer, 5)
	for i := range rows {
		rows[i] = customer{ID: int64(i + 1), Email: field.New("ada@example.org")}
	}
	must(t, customers(t, 1, versions).Seal(t.Context(), field.Pointers(rows)...))
	for i := range rows {
		rows[i] = stored(t, rows[i])
	}
	must(t, rows[2].Key.Scan("v1:"+base64.StdEncoding.EncodeToString([]byte("not a wrap"))))
	err := customers(t, 2, versions).Rewrap(t.Context(), field.Pointers(rows)...)
	failed, ok := errors.AsType[field.Failures](err)
	if !ok || len(failed) != 1 || failed[0].Index != 2 || !errors.Is(failed[0].Err, kmsencrypted.ErrDecrypt) {
		t.Fatalf("Rewrap: %v, want ErrDecrypt of record 3 alone", err)
	}
	for i := range rows {
		want := 2
		if i == 2 {
			want = 1
		}
		if version, _ := rows[i].Key.Version(); version != want {
			t.Errorf("record %d is at version %d, want %d", rows[i].ID, version, want)
		}
	}
}
