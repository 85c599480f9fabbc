package rotation

import (
	"bytes"
	"slices"
	"testing"
)

// Every mover gives columns that open under the new key alone, with the data key of
// before, and refuses a column of another record or one that was changed.
func TestMovers(t *testing.T) {
	t.Parallel()
	for _, m := range append(peers(), ours(), least()) {
		t.Run(m.name+" "+m.way, func(t *testing.T) {
			t.Parallel()
			columns := make([]string, 3)
			for id := range columns {
				var err error
				if columns[id], err = m.wrap(id); err != nil {
					t.Fatal(err)
				}
			}
			moved, err := m.move(columns)
			if err != nil || len(moved) != len(columns) {
				t.Fatalf("move = %d columns, %v", len(moved), err)
			}
			for id := range columns {
				before, err := m.before(id, columns[id])
				if err != nil || len(before) < 32 {
					t.Fatalf("%d bytes of a data key, %v", len(before), err)
				}
				if after, err := m.after(id, moved[id]); err != nil || !bytes.Equal(after, before) {
					t.Errorf("the data key changed, or %v", err)
				}
				if _, err := m.before(id, moved[id]); err == nil {
					t.Error("a moved column opens under the old key")
				}
			}
			swapped := slices.Clone(columns)
			swapped[0], swapped[1] = swapped[1], swapped[0]
			if _, err := m.move(swapped); err == nil {
				t.Error("columns of other records are moved")
			}
			for at := len(columns[0]) / 2; at < len(columns[0])-4; at += 7 {
				changed := slices.Clone(columns)
				changed[0] = other(columns[0], at)
				if _, err := m.move(changed); err == nil {
					t.Errorf("a column whose character %d was changed is moved", at)
				}
			}
		})
	}
}

// other changes a character of base64.
func other(column string, at int) string {
	b := []byte(column)
	if b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return string(b)
}
