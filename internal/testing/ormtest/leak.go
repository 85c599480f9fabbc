package ormtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// forms tries the ways of a library around its records. The table's constraint is
// there, and the canary shows what the library itself lets through.
func forms(t *testing.T, w *work) {
	tried := make(map[Path]int)
	for _, f := range w.Forms {
		tried[f.Path]++
		t.Run(f.Name, func(t *testing.T) { w.form(t, f) })
	}
	for _, path := range offered {
		switch reason := w.Absent[path]; {
		case tried[path] == 0 && reason == "":
			t.Errorf("no form for %s, and no reason", path)
		case tried[path] > 0 && reason != "":
			t.Errorf("%d forms for %s, which is said to be absent", tried[path], path)
		}
	}
	t.Logf("%d forms, of which %d are conditions; %d of %d paths are absent", len(w.Forms), tried[Condition], len(w.Absent), len(offered))
}

func (w *work) form(t *testing.T, f Form) {
	_, err := w.SQL.Exec("DELETE FROM " + Table)
	must(t, err)
	r := w.add(t, 2)[0]
	before := w.columns(t)
	if f.Read != nil {
		got, err := f.Read(w.ctx, r.ID())
		if text := fmt.Sprintf("%v %+v %s", got, got, got); strings.Contains(text, Secret) || err == nil && strings.Contains(text, "<nil>") {
			t.Errorf("it read %s", strings.ReplaceAll(text, Secret, "the plaintext"))
		}
		if err != nil {
			wantError(t, "the read", err)
		}
		return
	}
	plaintext := *email(8)
	if f.Wall {
		plaintext = "known to nobody"
	}
	err = f.Do(w.ctx, r, plaintext)
	if f.Seals {
		must(t, err)
		want := person(0)
		want.Email = &plaintext
		w.want(t, "sealed", r.ID(), want)
		return
	}
	wantError(t, "the form", err)
	if w.columns(t) != before {
		t.Error("it changed the table")
	}
	w.want(t, "the row", r.ID(), person(0))
}

// What is printed of a record holds no plaintext, opened or not yet sealed.
func printed(t *testing.T, w *work) {
	r := w.add(t, 1)[0]
	unsealed := w.DB.New(0, person(1))
	for what, entity := range map[string]any{"opened": r.Entity(), "unsealed": unsealed.Entity()} {
		text := []string{fmt.Sprintf("%v %+v %#v %s", entity, entity, entity, entity)}
		if b, err := json.Marshal(entity); err == nil {
			text = append(text, string(b))
		}
		if slices.ContainsFunc(text, func(s string) bool { return strings.Contains(s, Secret) }) {
			t.Errorf("an %s record prints its plaintext", what)
		}
	}
}

// The texts of drivers quote values.
func inErrors(t *testing.T, w *work) {
	rows := w.add(t, 2)
	wantError(t, "a name that is taken", w.DB.Insert(w.ctx, w.DB.New(0, person(0))))
	rows[1].SetName("name0")
	rows[1].SetEmail(email(7))
	wantError(t, "a change to a name that is taken", w.DB.Update(w.ctx, rows[1]))
	w.want(t, "after a failed update", rows[1].ID(), person(1))
	rows[1].SetName("name1")
	must(t, w.DB.Update(w.ctx, rows[1]))
	want := person(1)
	want.Email = email(7)
	w.want(t, "repeated", rows[1].ID(), want)
	if w.Name == "SQLite" {
		return // which has no limit
	}
	long := w.DB.New(0, person(9))
	long.SetName(strings.Repeat("long", 100))
	wantError(t, "a name that is too long", w.DB.Insert(w.ctx, long))
}
