package lockbox

// Column seals and opens the column of an attribute (has_encrypted in Ruby). It
// differs from a box in one point: the empty plaintext is stored as an empty
// column, unencrypted, unless the box has padding. The caller handles NULL: do
// not seal a value for which its [Type] returns null.
type Column struct {
	Box *Box
	// Binary means that the column holds the box itself (encode: false), otherwise
	// base64 text.
	Binary bool
}

// StoresEmpty reports whether the empty plaintext is stored as it is.
func (c Column) StoresEmpty() bool {
	versions := c.Box.versions()
	return len(versions) > 0 && versions[0].padding == 0
}

// Seal appends the stored form of plaintext to dst. See [Box.Seal].
func (c Column) Seal(dst, plaintext, associatedData []byte) ([]byte, error) {
	switch {
	case len(plaintext) == 0 && c.StoresEmpty():
		return dst, nil
	case c.Binary:
		return c.Box.Seal(dst, plaintext, associatedData)
	}
	return c.Box.SealText(dst, plaintext, associatedData)
}

// Open appends the plaintext of a stored column to dst. See [Box.Open] and
// [Box.OpenText].
func (c Column) Open(dst, stored, associatedData []byte) ([]byte, error) {
	switch {
	case len(stored) == 0 && c.StoresEmpty():
		return dst, nil
	case c.Binary:
		return c.Box.Open(dst, stored, associatedData)
	}
	return c.Box.OpenText(dst, stored, associatedData)
}
