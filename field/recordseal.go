package field

import (
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
)

// recordSealLabel is the HKDF info of the key of record seals (spec/native.md section 7).
const recordSealLabel = "kmsencrypted/1 record seal"

// sealRecord puts the seal over all columns of the group behind the wraps of its
// key column, where the version asks for one.
func (g *group) sealRecord() {
	if g.err != nil {
		return
	}
	recipe, err := g.box.Version(g.version)
	if err != nil || !recipe.RecordSeal {
		return
	}
	seal, err := g.recordSeal()
	if err != nil {
		g.fail("seal", g.spec.column, err)
		return
	}
	column := or(g.column, g.key.h.stored.text)
	version, native, err := parseKeyColumn(column)
	if err != nil {
		g.fail("seal", g.spec.column, err)
		return
	}
	native.Rest = seal
	body, err := native.Append(nil)
	if err != nil {
		g.fail("seal", g.spec.column, err)
		return
	}
	g.column = keycolumn.JoinVersion(version, body)
}

// checkRecordSeal compares the seal with the columns as they were read. A
// partial read cannot be checked.
func (g *group) checkRecordSeal() error {
	recipe, err := g.box.Version(g.version)
	if err != nil || !recipe.RecordSeal {
		return err
	}
	for _, f := range g.spec.fields {
		if !g.field(f).head().read {
			return nil
		}
	}
	_, native, err := parseKeyColumn(g.key.h.stored.text)
	if err != nil {
		return err
	}
	seal, err := g.recordSeal()
	if err != nil {
		return err
	}
	if !hmac.Equal(seal, native.Rest) {
		return kmsencrypted.ErrRecordSeal
	}
	return nil
}

// recordSeal is a MAC over which columns the group has and the authentication
// tag of each, in the order of their names.
func (g *group) recordSeal() ([]byte, error) {
	key, err := g.dataKey.Derive(recordSealLabel, sha256.Size)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	fields := slices.Clone(g.spec.fields)
	slices.SortFunc(fields, func(a, b *fieldSpec) int { return strings.Compare(a.bound, b.bound) })
	input := canon.Strings(g.schema.table, g.spec.bound)
	for _, f := range fields {
		state, column := g.after(f)
		if state == unset {
			return nil, g.failed("seal", f.column, kmsencrypted.ErrNotLoaded)
		}
		input = canon.AppendString(input, f.bound)
		input = canon.AppendBytes(input, tagOf(column, f.binary))
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(input)
	return mac.Sum(nil), nil
}

// after is a column as it will be once the group is committed.
func (g *group) after(f *fieldSpec) (state, stored) {
	o := g.field(f)
	for _, c := range g.changes {
		if c.field == o {
			return c.state, c.stored
		}
	}
	return o.head().state, o.head().stored
}

// tagOf is the authentication tag of a native column; NULL has none.
func tagOf(column stored, isBinary bool) []byte {
	if column.null {
		return nil
	}
	buf := newScratch()
	defer buf.release()
	sealed, err := nativeBytes(column, isBinary, buf)
	if err != nil {
		return nil // opening the column says what is wrong with it
	}
	const tagSize = 16
	return slices.Clone(sealed[len(sealed)-tagSize:])
}

func parseKeyColumn(column string) (version int, native keycolumn.Native, err error) {
	version, body, ok := keycolumn.SplitVersion(column)
	if !ok {
		return 0, native, kmsencrypted.ErrMalformed
	}
	native, err = keycolumn.ParseText(body)
	if err != nil {
		return 0, native, kmsencrypted.ErrMalformed
	}
	return version, native, nil
}
