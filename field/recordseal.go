package field

import (
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/mac"
)

// recordSealLabel is the HKDF info of the key of record seals (spec/native.md section 7).
const recordSealLabel = "kmsencrypted/1 record seal"

// sealRecord adds the seal over all columns of the group after the wraps of its key
// column, if the version asks for one. It checks an existing seal first, because renewing
// it would validate a column that somebody reverted.
func (g *group) sealRecord() {
	if g.err != nil || g.spec.isMaster {
		return
	}
	if err := g.checkRecordSeal(); err != nil {
		g.fail("seal", g.spec.column, err)
		return
	}
	recipe, err := g.box.Version(g.version)
	if err != nil || !recipe.RecordSeal {
		return
	}
	seal, err := g.recordSeal(g.dataKey, slot.after)
	if err != nil {
		g.fail("seal", g.spec.column, err)
		return
	}
	version, native, err := parseKeyColumn(or(g.column, g.key.h.stored.text))
	if err == nil {
		native.Rest = seal
		g.column, err = formatKeyColumn(version, native)
	}
	g.fail("seal", g.spec.column, err)
}

// sealsRecord reports whether the current version of the key column seals the record.
func (g *group) sealsRecord() bool { return g.key.h.ciphertext() && g.seals(g.key.h.stored.text) }

// hasSealToCheck reports whether the key column that was read has a seal that was not
// checked yet.
func (g *group) hasSealToCheck() bool {
	return !g.spec.isMaster && !g.key.checked && g.key.h.readValue() && g.seals(g.key.h.loaded.text)
}

func (g *group) seals(column string) bool {
	recipe, err := g.box.Version(kmsencrypted.ColumnVersion(column))
	return err == nil && recipe.RecordSeal
}

// isWhole reports whether every column of the group was read.
func (g *group) isWhole() bool {
	return !g.anyField(func(h *head) bool { return !h.read })
}

// checkRecordSeal compares the seal in the key column with the columns, both as they were
// read. It cannot check a partial read, nor a record whose old data key is not opened
// because all of it is written again.
func (g *group) checkRecordSeal() error {
	if !g.hasSealToCheck() || !g.isWhole() || g.need == needNewKey && !g.key.IsOpen() {
		return nil
	}
	oldKey := g.dataKey
	if g.need == needNewKey {
		oldKey = g.key.dataKey
	}
	_, native, err := parseKeyColumn(g.key.h.loaded.text)
	if err != nil {
		return err
	}
	seal, err := g.recordSeal(oldKey, slot.before)
	if err != nil {
		return err
	}
	if !hmac.Equal(seal, native.Rest) {
		return kmsencrypted.ErrRecordSeal
	}
	g.key.checked = true
	return nil
}

// before and after return the column of a field as it was read and as it will be after the
// commit of the group. known is false if it was neither read nor set.
func (s slot) before() (column stored, known bool) { return s.head().loaded, s.head().read }

func (s slot) after() (column stored, known bool) {
	if s.changed {
		return s.columns.value, true
	}
	return s.head().stored, s.head().state != unset
}

// recordSeal returns a MAC over the names of the group's columns, except those that are
// NULL, and the authentication tag of each, in the order of their names. A column that is
// declared later is NULL in old rows and so does not change their seals.
func (g *group) recordSeal(key kmsencrypted.DataKey, columnOf func(slot) (stored, bool)) ([]byte, error) {
	raw, err := key.Raw()
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	macKey, err := mac.Expand(raw, recordSealLabel, sha256.Size)
	if err != nil {
		return nil, err
	}
	defer clear(macKey)
	sorted := slices.Clone(g.slots)
	slices.SortFunc(sorted, func(a, b slot) int { return strings.Compare(a.spec.bound, b.spec.bound) })
	input := canon.Strings(g.schema.table, g.spec.bound)
	for _, s := range sorted {
		column, known := columnOf(s)
		if !known && !g.isNew {
			return nil, g.failed("seal", s.spec.column, kmsencrypted.ErrNotLoaded)
		}
		if !known || column.null {
			continue
		}
		input = canon.AppendString(input, s.spec.bound)
		input = canon.AppendBytes(input, tagOf(column, s.spec.binary))
	}
	seal := hmac.New(sha256.New, macKey)
	seal.Write(input)
	return seal.Sum(nil), nil
}

// tagOf returns the authentication tag of a native column.
func tagOf(column stored, isBinary bool) []byte {
	buf := newScratch()
	defer buf.release()
	sealed, err := nativeBytes(column, isBinary, buf)
	if err != nil {
		return nil // opening the column reports the error
	}
	const tagSize = 16
	return slices.Clone(sealed[len(sealed)-tagSize:])
}

func formatKeyColumn(version int, native keycolumn.Native) (string, error) {
	body, err := native.Append(nil)
	if err != nil {
		return "", err
	}
	return keycolumn.JoinVersion(version, body), nil
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
