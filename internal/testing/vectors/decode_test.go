package vectors

import "testing"

func TestDecode(t *testing.T) {
	t.Parallel()
	var file struct {
		Key   string
		Cases []struct {
			Name  string
			Value Value `json:"plain"`
			Size  int
		} `json:"cases"`
	}
	unknown, err := decode([]byte(`{"key": "k", "future": [{"x": 1}], "cases": [
		{"name": "a", "plain": {"s": "text"}, "size": 1},
		{},
		{"name": "b", "what": 2},
		{"name": "c", "plain": {"zzz": 1}},
		{"name": "d", "size": "one"},
		{"name": "e", "size": 2, "what": 3}
	]}`), &file)
	if err != nil || unknown != 4 || len(file.Cases) != 2 || file.Key != "k" || file.Cases[1].Size != 2 {
		t.Errorf("decode() = %d, %v: %+v; want 4 left out and 2 kept", unknown, err, file)
	}
	var list []int
	if unknown, err := decode([]byte("[1]"), &list); err != nil || unknown != 0 || len(list) != 1 {
		t.Errorf("decode of a list = %d, %v: %v", unknown, err, list)
	}
	if _, err := decode([]byte("{"), &file); err == nil {
		t.Error("decode of a damaged file succeeded")
	}
}

func TestKeepRails(t *testing.T) {
	t.Parallel()
	row := func(table string, names ...string) RailsRow {
		r := RailsRow{Table: table, Values: make(map[string]RailsValue), Find: make(map[string]RailsValue)}
		for _, name := range names {
			r.Values[name], r.Find[name] = RailsValue{Type: "string"}, RailsValue{}
		}
		return r
	}
	own := RailsManifest{Rows: []RailsRow{row("users", "email", "phone")}}
	other := RailsManifest{Rows: []RailsRow{row("users", "email", "fax"), row("invoices", "email"), row("users", "phone")}}
	other.Rows[2].Values["phone"] = RailsValue{Type: "interval"}
	if unknown := other.keep(own); unknown != 4 || len(other.Rows[1].Values) != 0 || len(other.Rows) != 2 || len(other.Rows[0].Values) != 1 || len(other.Rows[0].Find) != 1 {
		t.Errorf("%d left out, kept %+v", unknown, other.Rows)
	}
	files := RailsStorage{Files: []RailsFile{{Name: "photo"}, {Name: "future"}}}
	if unknown := files.keep(RailsStorage{Files: []RailsFile{{Name: "photo"}}}); unknown != 1 || len(files.Files) != 1 {
		t.Errorf("%d left out, kept %+v", unknown, files.Files)
	}
}
