package sqlstore_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// subscriber is only found by its address, which is not stored.
type subscriber struct {
	ID    int64             `db:"id"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Note  field.Of[*string] `db:"note_ciphertext"`
	Email string            `db:"-"`
	Index field.Index       `db:"email_bidx" kms:"of=Email,algorithm=hmac_sha256"`
	Notes field.Index       `db:"note_bidx" kms:"of=Note,algorithm=hmac_sha256"`
}

// No rotation changes an index whose source is not stored.
func TestVirtualIndexSQLite(t *testing.T) {
	t.Parallel()
	db, dir := sqlite.open(t), t.TempDir()
	key, err := blindindex.NewMasterKey(bytes.Repeat([]byte{1}, 32))
	must(t, err)
	modelAt := func(current int) *field.Model[subscriber] {
		m, err := field.NewModel[subscriber](box(t, dir, current), field.Config{Table: "subscribers", IndexKey: key})
		must(t, err)
		return m
	}
	m := modelAt(1)
	create(t, sqlite, db, m, "id bigint PRIMARY KEY")
	insert(t, db, m, []*subscriber{{ID: 1, Email: "ada@example.org", Note: field.New(new("n"))}})
	index := func() (text string) {
		must(t, db.Get(&text, "SELECT email_bidx FROM subscribers"))
		return text
	}
	before := index()
	m = modelAt(2)
	for _, kind := range []rotation.Kind{rotation.Rewrap, rotation.Rekey, rotation.Reindex} {
		_, err := db.Exec("UPDATE subscribers SET note_bidx = NULL")
		must(t, err)
		r := rotator(t, sqlite, db, m.Adapter().Box(), m, rotation.Options{Kind: kind})
		result, err := r.Run(t.Context())
		if err != nil || result.Written != 1 || result.Failed > 0 {
			t.Errorf("%s = %+v, %v", kind, result, err)
		}
		if index() != before {
			t.Errorf("%s changed the index of a field that is not stored", kind)
		}
		m = modelAt(3)
	}
	if v, err := rotator(t, sqlite, db, m.Adapter().Box(), m, rotation.Options{}).Verify(t.Context(), rotation.VerifyOptions{Derived: true}); err != nil || len(v.Failures) > 0 {
		t.Errorf("Verify() = %+v, %v", v, err)
	}
	type only struct {
		ID    int64             `db:"id"`
		Key   field.Key         `db:"encrypted_kms_key"`
		Note  field.Of[*string] `db:"note_ciphertext"`
		Email *string           `db:"-"`
		Index field.Index       `db:"email_bidx" kms:"of=Email,algorithm=hmac_sha256"`
	}
	o, err := field.NewModel[only](m.Adapter().Box(), field.Config{Table: "subscribers", IndexKey: key})
	must(t, err)
	_, err = rotator(t, sqlite, db, m.Adapter().Box(), o, rotation.Options{Kind: rotation.Reindex}).Run(t.Context())
	if !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Reindex without an index of a column = %v, want ErrConfig", err)
	}
}
