package field_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox/rubyyaml"
)

type note struct{ Text string }

var denyDecrypt = kmstest.Revoke(1).On(kmsencrypted.OpUnwrap)

type customer struct {
	ID    int64               `db:"id"`
	Name  string              `db:"name"`
	Key   field.Key           `db:"encrypted_kms_key"`
	Email field.Of[string]    `db:"email_ciphertext"`
	Born  field.Of[time.Time] `db:"born_ciphertext" kms:"type=date"`
	Notes field.Of[[]note]    `db:"notes_ciphertext"`
	Phone field.Of[*string]   `db:"phone_ciphertext"`
}

func nativeBox(t testing.TB, v kmsencrypted.Version) *kmsencrypted.Box {
	t.Helper()
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: v}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func newModel[R any](t testing.TB, box *kmsencrypted.Box, config field.Config) *field.Model[R] {
	t.Helper()
	m, err := field.NewModel[R](box, config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// anyRows is a model for tests of many row types: one Model[any] serves them all, where
// the compiler would make each Model[R] anew.
type anyRows struct{ *field.Model[any] }

func newAnyModel(t testing.TB, box *kmsencrypted.Box, row any, config field.Config) anyRows {
	t.Helper()
	m, err := field.NewDynamicModel(box, reflect.TypeOf(row).Elem(), config)
	if err != nil {
		t.Fatal(err)
	}
	return anyRows{m}
}

func (m anyRows) seal(t testing.TB, row any) error { return m.Seal(t.Context(), &row) }
func (m anyRows) open(t testing.TB, row any) error { return m.Open(t.Context(), &row) }

// column returns the value that the database stores for a field or key.
func column(t testing.TB, v driver.Valuer) driver.Value {
	t.Helper()
	stored, err := v.Value()
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func TestNativeRoundTrip(t *testing.T) {
	t.Parallel()
	p := kmstest.NewService(kmstest.Memory())
	m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: p.Provider()}), field.Config{Table: "customers"})
	phone := "+1 555 0100"
	c := customer{ID: 7, Name: "Ada", Email: field.New("ada@example.org"), Notes: field.New([]note{{"hi"}}), Phone: field.New(&phone)}
	c.Born.Set(time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC))
	if err := m.Seal(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	if p.Count(kmsencrypted.OpWrap) != 1 || p.Count(kmsencrypted.OpUnwrap) != 0 {
		t.Errorf("Seal made %d wraps and %d unwraps, want 1 and 0", p.Count(kmsencrypted.OpWrap), p.Count(kmsencrypted.OpUnwrap))
	}
	read := reload(t, c)
	if _, err := read.Email.Get(); !errors.Is(err, kmsencrypted.ErrNotOpened) {
		t.Errorf("Get before Open: %v, want ErrNotOpened", err)
	}
	if err := m.Open(t.Context(), &read); err != nil {
		t.Fatal(err)
	}
	if p.Count(kmsencrypted.OpUnwrap) != 1 {
		t.Errorf("Open made %d calls, want 1", p.Count(kmsencrypted.OpUnwrap))
	}
	if got := read.Email.Must(); got != "ada@example.org" {
		t.Errorf("Email = %q", got)
	}
	if got := read.Born.Must().Format(time.DateOnly); got != "1815-12-10" {
		t.Errorf("Born = %s", got)
	}
	if got := read.Notes.Must(); !reflect.DeepEqual(got, []note{{"hi"}}) {
		t.Errorf("Notes = %v", got)
	}
	if got := read.Phone.Must(); got == nil || *got != phone {
		t.Errorf("Phone = %v", got)
	}
}

// reload is a record as it comes back from the database.
func reload(t testing.TB, c customer) customer {
	t.Helper()
	read := customer{ID: c.ID, Name: c.Name}
	for _, pair := range []struct {
		from driver.Valuer
		to   sql.Scanner
	}{
		{c.Key, &read.Key}, {c.Email, &read.Email}, {c.Born, &read.Born}, {c.Notes, &read.Notes}, {c.Phone, &read.Phone},
	} {
		if err := pair.to.Scan(column(t, pair.from)); err != nil {
			t.Fatal(err)
		}
	}
	return read
}

func TestUpdateKeepsDataKeyAndVersion(t *testing.T) {
	t.Parallel()
	old, current := kmstest.NewService(kmstest.Memory()), kmstest.NewService(kmstest.Memory())
	before := nativeBox(t, kmsencrypted.Version{Provider: old.Provider()})
	after, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{1: {Provider: old.Provider()}, 2: {Provider: current.Provider()}}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	m1 := newModel[customer](t, before, field.Config{Table: "customers"})
	m2 := newModel[customer](t, after, field.Config{Table: "customers", Complete: true})
	c := customer{ID: 7, Email: field.New("a"), Notes: field.New([]note{{"x"}})}
	if err := m1.Seal(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	read := reload(t, c)
	read.Email.Set("b")
	if err := m2.Seal(t.Context(), &read); err != nil {
		t.Fatal(err)
	}
	if v, _ := read.Key.Version(); v != 1 || current.Count(kmsencrypted.OpWrap) != 0 {
		t.Errorf("after a partial update: version %d, %d new wraps; want the row's own", v, current.Count(kmsencrypted.OpWrap))
	}
	again := reload(t, read)
	if err := m2.Open(t.Context(), &again); err != nil || again.Email.Must() != "b" || again.Notes.Must()[0].Text != "x" {
		t.Errorf("after a partial update: %v", err)
	}
	// All of them: a new data key at the current version, and nothing decrypted.
	full := reload(t, read)
	old.Set(denyDecrypt)
	current.Set(denyDecrypt)
	full.Email.Set("c")
	full.Born.SetNull()
	full.Notes.Set(nil)
	full.Phone.SetNull()
	// A refusal of the key service is no permission: only the version's word is.
	if err := m2.Seal(t.Context(), &full); !errors.Is(err, kmsencrypted.ErrNeedsDecrypt) {
		t.Errorf("full update without permission: %v, want ErrNeedsDecrypt", err)
	}
	encryptOnly, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{1: {Provider: old.Provider(), EncryptOnly: true}, 2: {Provider: current.Provider(), EncryptOnly: true}}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	calls := old.Count(kmsencrypted.OpUnwrap) + current.Count(kmsencrypted.OpUnwrap)
	m3 := newModel[customer](t, encryptOnly, field.Config{Table: "customers", Complete: true})
	if err := m3.Seal(t.Context(), &full); err != nil || old.Count(kmsencrypted.OpUnwrap)+current.Count(kmsencrypted.OpUnwrap) != calls {
		t.Fatalf("full update of a server that may only encrypt: %v", err)
	}
	if w, err := m3.Adapter().Write(&full); err != nil || w.Key != field.KeyReplaced || len(w.Set) != 5 {
		t.Errorf("Write of it: %+v, %v, want every column", w, err)
	}
	if v, _ := full.Key.Version(); v != 2 {
		t.Errorf("after a full update: version %d, want 2", v)
	}
	// The same on a model that does not say that it is complete.
	incomplete := newModel[customer](t, after, field.Config{Table: "customers"})
	full = reload(t, read)
	full.Email.Set("c")
	full.Born.SetNull()
	full.Notes.Set(nil)
	full.Phone.SetNull()
	if err := incomplete.Seal(t.Context(), &full); !errors.Is(err, kmsencrypted.ErrNeedsDecrypt) || !errors.Is(err, kmsencrypted.ErrDenied) {
		t.Errorf("full update of an incomplete model without permission: %v, want ErrNeedsDecrypt and ErrDenied", err)
	}
}

func TestRewrapAndRekey(t *testing.T) {
	t.Parallel()
	a, b := kmstest.Memory(), kmstest.Memory()
	box, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{1: {Provider: a}, 2: {Provider: b, RecordSeal: true}}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	m1 := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: a}), field.Config{Table: "customers"})
	m := newModel[customer](t, box, field.Config{Table: "customers"})
	c := customer{ID: 7, Email: field.New("a"), Notes: field.New([]note{{"x"}})}
	if err := m1.Seal(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	for name, rotate := range map[string]func(context.Context, ...*customer) error{"Rewrap": m.Rewrap, "Rekey": m.Rekey} {
		read := reload(t, c)
		if err := rotate(t.Context(), &read); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if v, _ := read.Key.Version(); v != 2 {
			t.Errorf("%s: version %d, want 2", name, v)
		}
		sameColumn := column(t, read.Email) == column(t, c.Email)
		if sameColumn != (name == "Rewrap") {
			t.Errorf("%s: column kept = %v", name, sameColumn)
		}
		again := reload(t, read)
		if err := m.Open(t.Context(), &again); err != nil || again.Email.Must() != "a" {
			t.Errorf("%s: Open: %v", name, err)
		}
		// The record seal notices a column that was emptied.
		emptied := reload(t, read)
		if err := emptied.Notes.Scan(nil); err != nil {
			t.Fatal(err)
		}
		if err := m.Open(t.Context(), &emptied); !errors.Is(err, kmsencrypted.ErrRecordSeal) {
			t.Errorf("%s: a column emptied: %v, want ErrRecordSeal", name, err)
		}
	}
	partial := reload(t, c)
	partial.Notes = field.Of[[]note]{}
	if err := m.Rekey(t.Context(), &partial); !errors.Is(err, kmsencrypted.ErrNotLoaded) {
		t.Errorf("Rekey of a partial record: %v, want ErrNotLoaded", err)
	}
}

func TestOpenKeepsGoingAndNamesRecords(t *testing.T) {
	t.Parallel()
	p := kmstest.Memory()
	m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: p}), field.Config{Table: "customers"})
	var page []customer
	for id := range int64(10) {
		c := customer{ID: id + 1, Email: field.New("a")}
		if err := m.Seal(t.Context(), &c); err != nil {
			t.Fatal(err)
		}
		page = append(page, reload(t, c))
	}
	page[3].ID = 99 // a row's key column and ciphertexts moved to another row
	err := m.Open(t.Context(), field.Pointers(page)...)
	var failed field.Failures
	if !errors.As(err, &failed) || len(failed) != 1 || failed[0].Index != 3 {
		t.Fatalf("Open: %v, want one failure at 3", err)
	}
	if !strings.Contains(err.Error(), "customers id=99 column encrypted_kms_key") {
		t.Errorf("error %q does not name record and column", err)
	}
	for i, c := range page {
		if _, err := c.Email.Get(); (err == nil) != (i != 3) {
			t.Errorf("record %d: %v", i, err)
		}
	}
}

func TestOpenLazily(t *testing.T) {
	t.Parallel()
	p := kmstest.NewService(kmstest.Memory())
	m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: p.Provider()}), field.Config{Table: "customers"})
	c := customer{ID: 7, Email: field.New("a"), Notes: field.New([]note{{"x"}})}
	if err := m.Seal(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	read := reload(t, c)
	m.OpenLazily(&read)
	if p.Count(kmsencrypted.OpUnwrap) != 0 {
		t.Errorf("OpenLazily made %d calls", p.Count(kmsencrypted.OpUnwrap))
	}
	for range 2 {
		if got, err := read.Email.Plain(t.Context()); err != nil || got != "a" {
			t.Errorf("Plain = %q, %v", got, err)
		}
		if got, err := read.Notes.Plain(t.Context()); err != nil || got[0].Text != "x" {
			t.Errorf("Plain = %v, %v", got, err)
		}
	}
	if p.Count(kmsencrypted.OpUnwrap) != 1 {
		t.Errorf("two fields made %d calls, want 1", p.Count(kmsencrypted.OpUnwrap))
	}
}

func TestACopyIsARecordOfItsOwn(t *testing.T) {
	t.Parallel()
	m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "customers"})
	c := customer{ID: 7, Email: field.New("a")}
	if err := m.Seal(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	unopened := reload(t, c)
	unopened.ID = 8
	if err := m.SealNew(t.Context(), &unopened); !errors.Is(err, kmsencrypted.ErrNotOpened) {
		t.Errorf("SealNew of an unopened copy: %v, want ErrNotOpened", err)
	}
	dup := c
	dup.ID = 8
	if err := m.SealNew(t.Context(), &dup); err != nil {
		t.Fatal(err)
	}
	read := reload(t, dup)
	if err := m.Open(t.Context(), &read); err != nil || read.Email.Must() != "a" {
		t.Errorf("the copy: %v", err)
	}
	if column(t, c.Email) == column(t, dup.Email) {
		t.Error("the copy shares the ciphertext of the original")
	}
}

func TestSeveralKeysAndEmbedding(t *testing.T) {
	t.Parallel()
	type contact struct {
		PhoneKey field.Key        `db:"encrypted_kms_key_phone" kms:"name=phone"`
		Phone    field.Of[string] `db:"phone_ciphertext" kms:"key=phone"`
	}
	type user struct {
		ID    string           `db:"id"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext"`
		contact
	}
	p := kmstest.NewService(kmstest.Memory())
	m := newModel[user](t, nativeBox(t, kmsencrypted.Version{Provider: p.Provider()}), field.Config{Table: "users"})
	u := user{ID: "u1", Email: field.New("a")}
	if err := m.Seal(t.Context(), &u); err != nil {
		t.Fatal(err)
	}
	if p.Count(kmsencrypted.OpWrap) != 1 || !u.PhoneKey.IsNull() {
		t.Errorf("%d wraps, phone key null = %v; want a key only where it is used", p.Count(kmsencrypted.OpWrap), u.PhoneKey.IsNull())
	}
}

// Every supported Go type goes through a column and comes back.
func TestNativeTypes(t *testing.T) {
	t.Parallel()
	box := nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()})
	roundTrip(t, box, "text")
	roundTrip(t, box, "")
	roundTrip(t, box, []byte{0, 255})
	roundTrip(t, box, []byte{})
	roundTrip(t, box, true)
	roundTrip(t, box, int64(-1<<63))
	roundTrip(t, box, int8(-128))
	roundTrip(t, box, uint64(1<<64-1))
	roundTrip(t, box, uint16(65535))
	roundTrip(t, box, 1.5)
	roundTrip(t, box, float32(1.5))
	roundTrip(t, box, time.Date(2024, 2, 29, 12, 34, 56, 789, time.UTC))
	roundTrip(t, box, netip.MustParseAddr("2001:db8::1"))
	roundTrip(t, box, netip.MustParsePrefix("10.0.0.0/8"))
	roundTrip(t, box, *big.NewInt(1 << 62))
	roundTrip(t, box, big.NewInt(-5))
	roundTrip(t, box, map[string]any{"a": []any{1.5, nil}})
	roundTrip(t, box, note{"a"})
	roundTrip(t, box, new("pointer"))
	roundTrip(t, box, sql.Null[int64]{V: 5, Valid: true})
	roundTrip(t, box, sql.NullString{String: "x", Valid: true})
	isNull(t, box, (*string)(nil))
	isNull(t, box, []byte(nil))
	isNull(t, box, sql.Null[string]{})
	isNull(t, box, map[string]int(nil))
}

type typed[T any] struct {
	ID  int         `db:"id"`
	Key field.Key   `db:"key"`
	V   field.Of[T] `db:"v"`
}

func roundTrip[T any](t *testing.T, box *kmsencrypted.Box, v T) {
	t.Helper()
	r := typed[T]{ID: 1, V: field.New(v)}
	m := newAnyModel(t, box, &r, field.Config{Table: "t"})
	if err := m.seal(t, &r); err != nil {
		t.Fatalf("%T: %v", v, err)
	}
	read := typed[T]{ID: 1}
	if err := errors.Join(read.Key.Scan(column(t, r.Key)), read.V.Scan(column(t, r.V)), m.open(t, &read)); err != nil {
		t.Fatalf("%T: %v", v, err)
	}
	if got := read.V.Must(); !reflect.DeepEqual(got, v) {
		t.Errorf("%T: got %v, want %v", v, got, v)
	}
}

func isNull[T any](t *testing.T, box *kmsencrypted.Box, v T) {
	t.Helper()
	r := typed[T]{ID: 1, V: field.New(v)}
	m := newAnyModel(t, box, &r, field.Config{Table: "t"})
	if err := m.seal(t, &r); err != nil || column(t, r.V) != nil {
		t.Errorf("%T: stored %v, %v, want NULL", v, column(t, r.V), err)
	}
}

func TestNativeTimeOptions(t *testing.T) {
	t.Parallel()
	type event struct {
		ID   int                 `db:"id"`
		Key  field.Key           `db:"key"`
		Day  field.Of[time.Time] `db:"day" kms:"type=date"`
		Hour field.Of[time.Time] `db:"hour" kms:"type=time"`
		Text field.Of[string]    `db:"text" kms:"type=json,padding=64"`
		Raw  field.Of[string]    `db:"raw" kms:"binary"`
	}
	m := newModel[event](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "events"})
	at := time.Date(2024, 2, 29, 23, 34, 56, 789, time.FixedZone("west", -5*3600))
	e := event{ID: 1, Day: field.New(at), Hour: field.New(at), Text: field.New("x"), Raw: field.New("y")}
	if err := m.Seal(t.Context(), &e); err != nil {
		t.Fatal(err)
	}
	if _, ok := column(t, e.Raw).([]byte); !ok {
		t.Errorf("a binary column is a %T", column(t, e.Raw))
	}
	if got, want := len(column(t, e.Text).(string)), (1+8+12+64+16+2)/3*4; got != want {
		t.Errorf("a padded column has %d characters, want %d", got, want)
	}
	read := event{ID: 1}
	if err := errors.Join(read.Key.Scan(column(t, e.Key)), read.Day.Scan(column(t, e.Day)), read.Hour.Scan(column(t, e.Hour)),
		read.Text.Scan(column(t, e.Text)), read.Raw.Scan(column(t, e.Raw)), m.Open(t.Context(), &read)); err != nil {
		t.Fatal(err)
	}
	// A date is the day that the value shows; a time of day is in UTC.
	if got := read.Day.Must().Format(time.DateOnly); got != "2024-02-29" {
		t.Errorf("date = %s", got)
	}
	if got := read.Hour.Must().Format("15:04:05.000000000"); got != "04:34:56.000000789" {
		t.Errorf("time = %s", got)
	}
	if read.Text.Must() != "x" || read.Raw.Must() != "y" {
		t.Errorf("text, raw = %q, %q", read.Text.Must(), read.Raw.Must())
	}
}

// Values of no fixed type keep theirs: whole numbers beyond 2^53, floats without
// a fraction, and in YAML Ruby's symbols.
func TestNativeDynamicValues(t *testing.T) {
	t.Parallel()
	box := nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()})
	roundTrip(t, box, map[string]any{"n": int64(9007199254740993), "f": 3.0, "list": []any{int64(1), 1.5, "x", nil, true}})
	roundTrip(t, box, []any{int64(-1), map[string]any{"a": int64(2)}})
	type settings struct {
		ID  int                    `db:"id"`
		Key field.Key              `db:"key"`
		V   field.Of[lockbox.Hash] `db:"v" kms:"type=hash"`
	}
	m := newModel[settings](t, box, field.Config{Table: "t", YAML: rubyyaml.Codec{}})
	want := lockbox.Hash{{Key: lockbox.Symbol("theme"), Value: lockbox.Symbol("dark")}, {Key: "n", Value: int64(3)}}
	r := settings{ID: 1, V: field.New(want)}
	must(t, m.Seal(t.Context(), &r))
	read := settings{ID: 1}
	must(t, errors.Join(read.Key.Scan(column(t, r.Key)), read.V.Scan(column(t, r.V)), m.Open(t.Context(), &read)))
	if got := read.V.Must(); !reflect.DeepEqual(got, want) {
		t.Errorf("hash: got %v, want %v", got, want)
	}
}

func TestRekeyGoesOnBesideABadRecord(t *testing.T) {
	t.Parallel()
	m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "customers"})
	var page []customer
	for id := range int64(4) {
		c := customer{ID: id + 1, Email: field.New("a")}
		must(t, m.Seal(t.Context(), &c))
		page = append(page, reload(t, c))
	}
	must(t, page[1].Email.Scan("plaintext"))
	err := m.Rekey(t.Context(), field.Pointers(page)...)
	failed, ok := errors.AsType[field.Failures](err)
	if !ok || len(failed) != 1 || failed[0].Index != 1 || !errors.Is(err, kmsencrypted.ErrNotCiphertext) {
		t.Fatalf("Rekey: %v, want one failure at 1", err)
	}
	for i := range page {
		w, err := m.Adapter().Write(&page[i])
		must(t, err)
		if rekeyed := len(w.Set) > 0; rekeyed != (i != 1) {
			t.Errorf("record %d: rekeyed = %v", i, rekeyed)
		}
	}
}
