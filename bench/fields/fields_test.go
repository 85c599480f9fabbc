package fields

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// What is compared does the same job, and refuses what was changed. Columns are bound
// to their place where the README says so, and nowhere else.
func TestStores(t *testing.T) {
	t.Parallel()
	for _, s := range append(peers(), ours(), least()) {
		t.Run(s.name+" "+s.way, func(t *testing.T) {
			t.Parallel()
			sealed := sealedBy(t, s)
			t.Logf("%d bytes of text in a row", sealed.size())
			if texts, err := s.open(7, sealed); texts != limit.Plaintexts || err != nil {
				t.Errorf("open = %q, %v, want %q", texts, err, limit.Plaintexts)
			}
			for i := range sealed.columns {
				if strings.Contains(sealed.columns[i], limit.Plaintexts[i]) {
					t.Errorf("column %d is %q", i, sealed.columns[i])
				}
				changed := sealed
				changed.columns[i] = flipped(t, changed.columns[i])
				refused(t, s, true, "a changed column", 7, changed)
			}
			if sealed.key != "" {
				changed := sealed
				version, body, ok := strings.Cut(sealed.key, ":")
				if !ok {
					version, body = "", sealed.key
				} else {
					version += ":"
				}
				changed.key = version + flipped(t, body)
				refused(t, s, true, "a changed key", 7, changed)
			}
			swapped := sealed
			swapped.columns[0], swapped.columns[1] = sealed.columns[1], sealed.columns[0]
			refused(t, s, s.bound, "swapped columns", 7, swapped)
			refused(t, s, s.bound, "another record", 8, sealed)
			if again := sealedBy(t, s); again == sealed {
				t.Error("sealing twice gives the same row")
			}
		})
	}
}

func sealedBy(t *testing.T, s store) row {
	t.Helper()
	sealed, err := s.seal(7)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func refused(t *testing.T, s store, want bool, what string, id int, r row) {
	t.Helper()
	if _, err := s.open(id, r); (err != nil) != want {
		t.Errorf("open of %s = %v, want an error: %t", what, err, want)
	}
}

// flipped changes the last bit of a column.
func flipped(t *testing.T, column string) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(column)
	if err != nil {
		raw, err = base64.RawStdEncoding.DecodeString(column)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	return base64.StdEncoding.EncodeToString(raw)
}
