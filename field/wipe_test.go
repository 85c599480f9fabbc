package field_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type wiped struct {
	ID  int64            `db:"id"`
	Key field.Key        `db:"encrypted_kms_key"`
	A   field.Of[string] `db:"a"`
	B   field.Of[string] `db:"b"`
}

// wipedAndSet returns a record that was inserted, wiped and changed in one field.
func wipedAndSet(t *testing.T, m *field.Model[wiped]) *wiped {
	t.Helper()
	r := &wiped{ID: 1, A: field.New("a"), B: field.New("b")}
	must(t, m.SealNew(t.Context(), r))
	m.Adapter().Saved(r)
	r.Key.Wipe()
	r.A.Set("changed")
	return r
}

// A record whose key was wiped unwraps the key that it has stored. It never gets
// another one, under which its other fields would be lost.
func TestSealAfterWipe(t *testing.T) {
	t.Parallel()
	for _, complete := range []bool{false, true} {
		p := kmstest.NewService(kmstest.Memory())
		m := newModel[wiped](t, nativeBox(t, kmsencrypted.Version{Provider: p.Provider()}), field.Config{Table: "t", Complete: complete})
		r := wipedAndSet(t, m)
		before, wraps := keyText(t, &r.Key), p.Count(kmsencrypted.OpWrap)
		must(t, m.Seal(t.Context(), r))
		if keyText(t, &r.Key) != before || p.Count(kmsencrypted.OpWrap) != wraps || p.Count(kmsencrypted.OpUnwrap) != 1 {
			t.Errorf("complete=%t: Seal after Wipe wrapped %d keys and unwrapped %d, want its own key unwrapped", complete, p.Count(kmsencrypted.OpWrap)-wraps, p.Count(kmsencrypted.OpUnwrap))
		}
		var back wiped
		copyColumns(t, &back, r)
		if err := m.Open(t.Context(), &back); err != nil || back.A.Must() != "changed" || back.B.Must() != "b" {
			t.Errorf("complete=%t: %v", complete, err)
		}
	}
}

// Where nothing may be decrypted, a wiped key cannot come back, and it is not replaced.
func TestSealAfterWipeEncryptOnly(t *testing.T) {
	t.Parallel()
	p := kmstest.NewService(kmstest.Memory())
	p.Set(denyDecrypt)
	m := newModel[wiped](t, nativeBox(t, kmsencrypted.Version{Provider: p.Provider(), EncryptOnly: true}), field.Config{Table: "t", Complete: true})
	r := wipedAndSet(t, m)
	before := keyText(t, &r.Key)
	if err := m.Seal(t.Context(), r); !errors.Is(err, kmsencrypted.ErrNeedsDecrypt) || keyText(t, &r.Key) != before {
		t.Errorf("Seal of one field after Wipe: %v, want ErrNeedsDecrypt and the same key column", err)
	}
}

// A copy shares the data key. It does not know that this was wiped, and says so.
func TestSealOfCopyAfterWipe(t *testing.T) {
	t.Parallel()
	m := newModel[wiped](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "t"})
	r := &wiped{ID: 1, A: field.New("a"), B: field.New("b")}
	must(t, m.SealNew(t.Context(), r))
	m.Adapter().Saved(r)
	other := *r
	r.Key.Wipe()
	other.A.Set("changed")
	if err := m.Seal(t.Context(), &other); !errors.Is(err, kmsencrypted.ErrWiped) {
		t.Errorf("Seal of a copy after Wipe: %v, want ErrWiped", err)
	}
}
