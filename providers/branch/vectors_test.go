package branch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// vectorCase is a key store, or a ciphertext under one of its branches.
type vectorCase struct {
	Name  string
	Store vectors.Hex
	Rows  []struct {
		Parent, Branch           string
		Version                  uint32
		Created, Closing, Erased int64
		KeyColumn                string `json:"key_column"`
		Binding                  vectors.Hex
	}
	Parent, Branch        string
	Context               vectorContext
	Ciphertext, Plaintext vectors.Hex
	Error                 string
}

// vectorContext is null, {"text": t} or {"pairs": [[name, value], …]}.
type vectorContext struct{ kmsencrypted.EncryptionContext }

func (c *vectorContext) UnmarshalJSON(data []byte) error {
	var form *struct {
		Pairs [][2]any
		Text  *string
	}
	if err := json.Unmarshal(data, &form); err != nil || form == nil {
		return err
	}
	if form.Text != nil {
		c.EncryptionContext = kmsencrypted.TextContext(*form.Text)
		return nil
	}
	pairs := kmsencrypted.OrderedContext{}
	for _, p := range form.Pairs {
		if n, ok := p[1].(float64); ok {
			p[1] = int(n)
		}
		pairs = append(pairs, kmsencrypted.Pair{Name: p[0].(string), Value: p[1]})
	}
	c.EncryptionContext = pairs
	return nil
}

// fixed is a key store whose rows never change.
type fixed struct {
	branch.Store
	state branch.State
	rows  []branch.Row
}

func (f *fixed) Read(_ context.Context, name branch.Name) (branch.State, []branch.Row, error) {
	var own []branch.Row
	for _, r := range f.rows {
		if r.Name == name {
			own = append(own, r)
		}
	}
	return f.state, own, nil
}

func (f *fixed) All(context.Context, string) iter.Seq2[branch.Row, error] { return nil }

func TestNativeVectors(t *testing.T) {
	t.Parallel()
	cases := vectors.Native[vectorCase](t, "branch.json")
	box, err := kmsencrypted.NewBox(vectors.NativeProvider{Name: "one", Tag: "vector one"})
	if err != nil {
		t.Fatal(err)
	}
	store := &fixed{state: branch.State{ID: branch.ID(cases[0].Store)}}
	for _, r := range cases[0].Rows {
		row := branch.Row{Name: branch.Name{Parent: r.Parent, Branch: r.Branch}, Version: r.Version, WrappedKey: r.KeyColumn, Created: time.UnixMilli(r.Created)}
		if r.Closing > 0 {
			row.Closing = time.UnixMilli(r.Closing)
		}
		if r.Erased > 0 {
			row.Erased = time.UnixMilli(r.Erased)
		}
		store.rows = append(store.rows, row)
	}
	for _, c := range cases[1:] {
		p, err := branch.Open(t.Context(), store, box, branch.Options{NoCreate: true, Of: func(kmsencrypted.BoundContext) (branch.Name, error) {
			return branch.Name{Parent: c.Parent, Branch: c.Branch}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		ec := bind(t, c.Context.EncryptionContext)
		got, err := p.Decrypt(t.Context(), c.Ciphertext, ec)
		if c.Error != "" {
			want := map[string]error{"ErrDecrypt": kmsencrypted.ErrDecrypt, "ErrMissing": branch.ErrMissing, "ErrErased": branch.ErrErased}
			for name, sentinel := range want {
				if errors.Is(err, sentinel) != (name == c.Error) {
					t.Errorf("%s: error = %v, want %s alone", c.Name, err, c.Error)
				}
			}
			if want[c.Error] == nil || got != nil {
				t.Errorf("%s: Decrypt = %x, want no plaintext and a known error", c.Name, got)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, c.Plaintext) {
			t.Errorf("%s: Decrypt = %x, %v, want %x", c.Name, got, err, c.Plaintext)
		}
		// What it writes differs in salt and nonce, and is under the current version.
		written, err := p.Encrypt(t.Context(), c.Plaintext, ec)
		if err != nil || len(written) != 49+len(c.Plaintext) {
			t.Errorf("%s: Encrypt = %x, %v", c.Name, written, err)
		}
		if again, err := p.Decrypt(t.Context(), written, ec); err != nil || !bytes.Equal(again, c.Plaintext) {
			t.Errorf("%s: Decrypt(Encrypt) = %x, %v", c.Name, again, err)
		}
	}
	vectors.Ran(t, "native/branch.json", len(cases)-1)
}
