package spelling_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/spelling"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type card struct {
	Shop   string           `db:"shop" kms:"id"`
	ID     string           `db:"id" kms:"id"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Number field.Of[string] `db:"number"`
}

// A record opens under the id it was sealed for. So each needs a row of that very id.
func TestCheck(t *testing.T) {
	t.Parallel()
	box, err := kmsencrypted.NewBox(kmstest.Memory())
	if err != nil {
		t.Fatal(err)
	}
	model, err := field.NewModel[card](box, field.Config{Table: "cards"})
	if err != nil {
		t.Fatal(err)
	}
	a, b := &card{Shop: "x", ID: "a", Number: field.New("1")}, &card{Shop: "x", ID: "b", Number: field.New("2")}
	if err := model.SealNew(t.Context(), a, b); err != nil {
		t.Fatal(err)
	}
	row := func(shop, id string) *card { return &card{Shop: shop, ID: id} }
	for name, c := range map[string]struct {
		told  []*card
		lossy bool
	}{
		"in order":                      {[]*card{row("x", "a"), row("x", "b")}, false},
		"in another order":              {[]*card{row("x", "b"), row("x", "a")}, false},
		"others beside them":            {[]*card{row("x", "c"), row("x", "b"), nil, row("x", "a")}, false},
		"another spelling":              {[]*card{row("x", "a"), row("x", "B")}, true},
		"one row for both":              {[]*card{row("x", "a"), row("x", "a")}, true},
		"one row is missing":            {[]*card{row("x", "a")}, true},
		"an id that the type lacks":     {[]*card{row("x", "a"), nil}, true},
		"the same letters, split other": {[]*card{row("x", "a"), row("", "xb")}, true},
	} {
		lost, err := spelling.Check(model.Adapter(), []*card{a, b}, c.told)
		if (lost != nil) != c.lossy || c.lossy != errors.Is(err, kmsencrypted.ErrLossy) || !c.lossy && err != nil {
			t.Errorf("Check(%s) = %v, want an error: %t", name, err, c.lossy)
		}
	}
}
