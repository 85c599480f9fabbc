//go:build cgo

package pkcs11

// A ciphertext is, as spec/pkcs11.md says,
//
//	format 01 | mechanism 1 | length of the id 1 | id | body
//
// where id is the attribute CKA_ID of the key that wrapped it.
const format = 1

// maxID is the length in bytes of the longest id of a key.
const maxID = 255

type wrapped struct {
	mechanism byte
	id        string
	body      []byte
}

func (w wrapped) encode() []byte {
	out := append(make([]byte, 0, 3+len(w.id)+len(w.body)), format, w.mechanism, byte(len(w.id)))
	return append(append(out, w.id...), w.body...)
}

func decode(ciphertext []byte) (w wrapped, ok bool) {
	if len(ciphertext) < 3 || ciphertext[0] != format || len(ciphertext) < 3+int(ciphertext[2]) {
		return w, false
	}
	end := 3 + int(ciphertext[2])
	return wrapped{ciphertext[1], string(ciphertext[3:end]), ciphertext[end:]}, true
}
