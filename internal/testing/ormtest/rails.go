package ormtest

import (
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// A column of Rails' encrypts is under no data key: it takes no call, gives a row no key,
// is left alone by a rekey, and is looked up by its value.
func railsColumn(t *testing.T, w *work) {
	keyless := Values{Tenant: "a", Name: "keyless", Nickname: nickname(1)}
	r := w.DB.New(0, keyless)
	wraps, unwraps := w.calls(func() {
		must(t, w.DB.Insert(w.ctx, r))
		held := w.find(t, r.ID())
		keyless.Nickname = nickname(2)
		held.SetNickname(keyless.Nickname)
		must(t, w.DB.Update(w.ctx, held))
	})
	if wraps != 0 || unwraps != 0 {
		t.Errorf("a row without a data key: %d calls to wrap and %d to unwrap", wraps, unwraps)
	}
	w.want(t, "without a data key", r.ID(), keyless)
	if p := w.person(t, r.ID()); !p.Key.IsNull() || !p.PhoneKey.IsNull() {
		t.Error("a column of Rails gave its row a data key")
	}

	rows := w.add(t, 2)
	w.wantNickname(t, "an updated row", nickname(2), r.ID())
	w.wantNickname(t, "an inserted row", nickname(0), rows[0].ID())
	w.wantNickname(t, "another", nickname(9))
	held := w.find(t, rows[1].ID())
	held.SetNickname(new(""))
	must(t, w.DB.Update(w.ctx, held))
	w.wantNickname(t, "the empty text", new(""), rows[1].ID())
	held.SetNickname(nickname(0))
	must(t, w.DB.Update(w.ctx, held))
	w.wantNickname(t, "two rows", nickname(0), rows[0].ID(), rows[1].ID())
	held.SetNickname(nil)
	must(t, w.DB.Update(w.ctx, held))
	w.wantNickname(t, "not the row with NULL", nickname(0), rows[0].ID())

	before := stored(t, w.person(t, rows[0].ID()).Nickname)
	held = w.find(t, rows[0].ID())
	w.rekey(t, rows[0].ID())
	if stored(t, w.person(t, rows[0].ID()).Nickname) != before {
		t.Error("a rekey wrote the column of Rails")
	}
	want := person(0)
	want.Nickname = nickname(5)
	held.SetNickname(want.Nickname)
	if err := w.DB.Update(w.ctx, held); err != nil { // the record's plain columns may want the keys unchanged
		wantError(t, "an update beside a rekey", err, kmsencrypted.ErrConflict)
		held = w.find(t, rows[0].ID())
		held.SetNickname(want.Nickname)
		must(t, w.DB.Update(w.ctx, held))
	}
	w.want(t, "written beside a rekey", rows[0].ID(), want)
}

func (w *work) wantNickname(t *testing.T, what string, value *string, want ...int64) {
	t.Helper()
	found, err := w.DB.Lookup(w.ctx, "Nickname", *value)
	must(t, err)
	var got []int64
	for _, r := range found {
		got = append(got, r.ID())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: found %v, want %v", what, got, want)
	}
}
