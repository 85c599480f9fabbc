package field_test

import (
	"bytes"
	"encoding/gob"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type tagged struct {
	ID   int64                       `db:"id"`
	Key  field.Key                   `db:"encrypted_kms_key"`
	Tags field.Of[map[string]string] `db:"tags_ciphertext"`
	Name field.Of[*string]           `db:"name_ciphertext"`
}

// savedTags is a record as it is after an INSERT, and the map that it was made of.
func savedTags(t *testing.T) (*field.Model[tagged], *tagged, map[string]string) {
	t.Helper()
	m := newModel[tagged](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "docs"})
	tags := map[string]string{"a": "1"}
	d := &tagged{ID: 1, Tags: field.New(tags)}
	must(t, m.SealNew(t.Context(), d))
	m.Adapter().Saved(d)
	return m, d, tags
}

// columnsToWrite seals a record and lists the columns to write.
func columnsToWrite[R any](t *testing.T, m *field.Model[R], row *R) (columns []string) {
	t.Helper()
	must(t, m.Seal(t.Context(), row))
	w, err := m.Adapter().Write(row)
	must(t, err)
	for _, a := range w.Set {
		columns = append(columns, a.Column)
	}
	m.Adapter().Saved(row)
	return columns
}

func TestChangedInPlace(t *testing.T) {
	t.Parallel()
	m, d, shared := savedTags(t)
	expect := func(what string, want ...string) {
		t.Helper()
		if got := columnsToWrite(t, m, d); !slices.Equal(got, want) {
			t.Errorf("%s: columns to write: %v, want %v", what, got, want)
		}
	}
	expect("nothing changed")
	d.Tags.Must()["b"] = "2"
	if _, err := d.Tags.Value(); !errors.Is(err, kmsencrypted.ErrUnsealed) {
		t.Errorf("Value of a map that was changed: %v, want ErrUnsealed", err)
	}
	if _, err := m.Adapter().Write(d); !errors.Is(err, kmsencrypted.ErrUnsealed) || !d.Tags.IsSet() {
		t.Errorf("Write of a map that was changed: %v, want ErrUnsealed", err)
	}
	expect("a map from Must", "tags_ciphertext")
	expect("and again")
	shared["c"] = "3"
	expect("the map that was set", "tags_ciphertext")
	d.Tags.Must()["c"] = "4"
	d.Tags.Must()["c"] = "3"
	expect("changed back")

	copied := *d
	copied.Tags.Must()["d"] = "4"
	if got := columnsToWrite(t, m, &copied); !slices.Equal(got, []string{"tags_ciphertext"}) {
		t.Errorf("a copy: %v", got)
	}
	expect("what shares its map with a copy", "tags_ciphertext")

	name := "Ada"
	d.Name.Set(&name)
	expect("a pointer", "name_ciphertext")
	name = "Grace"
	expect("behind the pointer", "name_ciphertext")

	read := tagged{ID: 1}
	must(t, errors.Join(read.Key.Scan(column(t, d.Key)), read.Tags.Scan(column(t, d.Tags)), read.Name.Scan(column(t, d.Name))))
	m.OpenLazily(&read)
	tags, err := read.Tags.Plain(t.Context())
	must(t, err)
	if len(tags) != 4 || *openedLazily(t, &read.Name) != "Grace" {
		t.Errorf("read back: %v", tags)
	}
	if got := columnsToWrite(t, m, &read); len(got) > 0 {
		t.Errorf("opened lazily and left alone: %v", got)
	}
	delete(tags, "d")
	if got := columnsToWrite(t, m, &read); !slices.Equal(got, []string{"tags_ciphertext"}) {
		t.Errorf("opened lazily: %v", got)
	}
}

func openedLazily[T any](t *testing.T, o *field.Of[T]) T {
	v, err := o.Plain(t.Context())
	must(t, err)
	return v
}

// A rekey, and the insert of a copy, take what the variables hold.
func TestChangedInPlaceThenRekeyed(t *testing.T) {
	t.Parallel()
	for _, how := range []struct {
		name string
		seal func(*field.Model[tagged], *tagged) error
	}{
		{"Rekey", func(m *field.Model[tagged], d *tagged) error { return m.Rekey(t.Context(), d) }},
		{"SealNew", func(m *field.Model[tagged], d *tagged) error { return m.SealNew(t.Context(), d) }},
	} {
		m, d, _ := savedTags(t)
		d.Tags.Must()["b"] = "2"
		must(t, how.seal(m, d))
		read := tagged{ID: 1}
		must(t, errors.Join(read.Key.Scan(column(t, d.Key)), read.Tags.Scan(column(t, d.Tags))))
		must(t, m.Open(t.Context(), &read))
		if read.Tags.Must()["b"] != "2" {
			t.Errorf("%s lost a change", how.name)
		}
		if got := columnsToWrite(t, m, &read); len(got) > 0 {
			t.Errorf("%s: left alone, and yet to be written: %v", how.name, got)
		}
	}
}

// A value that cannot be stored any more is an error, not left out.
func TestChangedInPlaceToNonsense(t *testing.T) {
	t.Parallel()
	type doc struct {
		ID  int64         `db:"id"`
		Key field.Key     `db:"encrypted_kms_key"`
		Any field.Of[any] `db:"any_ciphertext"`
	}
	m := newModel[doc](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "docs"})
	d := &doc{ID: 1, Any: field.New[any](map[string]any{})}
	must(t, m.SealNew(t.Context(), d))
	m.Adapter().Saved(d)
	d.Any.Must().(map[string]any)["f"] = func() {}
	if err := m.Seal(t.Context(), d); err == nil {
		t.Error("Seal returned nil for a map that has no JSON any more")
	}
	delete(d.Any.Must().(map[string]any), "f")
	if got := columnsToWrite(t, m, d); len(got) > 0 {
		t.Errorf("after it was mended: %v", got)
	}
}

// restless is a value that its codec never writes twice in the same words.
type restless map[string]int

func TestUnchangedUnderACodecThatVaries(t *testing.T) {
	t.Parallel()
	type doc struct {
		ID  int64              `db:"id"`
		Key field.Key          `db:"encrypted_kms_key"`
		Map field.Of[restless] `db:"map_ciphertext"`
	}
	codec := field.TypeOf("restless", func(r restless) ([]byte, error) {
		var b bytes.Buffer
		err := errors.Join(gob.NewEncoder(&b).Encode(rand.Uint64()), gob.NewEncoder(&b).Encode(map[string]int(r)))
		return b.Bytes(), err
	}, func(text []byte) (r restless, err error) {
		b := bytes.NewBuffer(text)
		var noise uint64
		if err = gob.NewDecoder(b).Decode(&noise); err == nil {
			err = gob.NewDecoder(b).Decode((*map[string]int)(&r))
		}
		return r, err
	})
	m := newModel[doc](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "docs", Types: []field.Type{codec}})
	d := &doc{ID: 1, Map: field.New(restless{"a": 1, "b": 2})}
	must(t, m.SealNew(t.Context(), d))
	m.Adapter().Saved(d)
	if got := columnsToWrite(t, m, d); len(got) > 0 {
		t.Errorf("left alone: %v", got)
	}
	d.Map.Must()["a"] = 2
	if got := columnsToWrite(t, m, d); !slices.Equal(got, []string{"map_ciphertext"}) {
		t.Errorf("changed: %v", got)
	}
}

// The value that a column takes over from the one it replaces is the program's
// once it changes it.
func TestChangedInPlaceWhileMigrating(t *testing.T) {
	t.Parallel()
	type doc struct {
		ID  int64            `db:"id"`
		Key field.Key        `db:"encrypted_kms_key"`
		Old []byte           `db:"old"`
		New field.Of[[]byte] `db:"new_ciphertext" kms:"migrating=Old"`
	}
	m := newModel[doc](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "docs"})
	read := func() *doc {
		d := &doc{ID: 1, Old: []byte("abc")}
		must(t, errors.Join(d.Key.Scan(nil), d.New.Scan(nil), m.Open(t.Context(), d)))
		return d
	}
	write := func(d *doc) field.Write {
		must(t, m.Seal(t.Context(), d))
		w, err := m.Adapter().Write(d)
		must(t, err)
		return w
	}
	old := func(list []field.Assignment) any {
		for _, a := range list {
			if a.Column == "old" {
				return a.Value
			}
		}
		return nil
	}
	taken := write(read())
	if got, _ := old(taken.Where).([]byte); string(got) != "abc" || old(taken.Set) != nil {
		t.Errorf("taken over: %v", taken)
	}
	d := read()
	d.New.Must()[0] = 'x'
	changed := write(d)
	if got, _ := old(changed.Set).([]byte); string(got) != "xbc" || old(changed.Where) != nil {
		t.Errorf("taken over and changed in place: %v", changed)
	}
}
