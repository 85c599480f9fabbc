package rotation

import (
	"bytes"
	"encoding/base64"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// tinkKeysets reads the encrypted keyset of each record and writes it again.
func tinkKeysets() mover {
	old, current := tinkKey(), tinkKey()
	return mover{
		name: "Tink", way: "a keyset for each record", module: "github.com/tink-crypto/tink-go/v2",
		otherwise: "parses a keyset; has no commitment to check and to renew",
		wrap:      func(id int) (string, error) { return writeKeyset(newKeyset(), old, id) },
		move: each(func(id int, column string) (string, error) {
			h, err := readKeyset(column, old, id)
			if err != nil {
				return "", err
			}
			return writeKeyset(h, current, id)
		}),
		before: clearKeyset(old), after: clearKeyset(current),
	}
}

func newKeyset() *keyset.Handle { return job.OrPanic(keyset.NewHandle(aead.AES256GCMKeyTemplate())) }

func tinkKey() tink.AEAD { return job.OrPanic(aead.New(newKeyset())) }

func writeKeyset(h *keyset.Handle, kek tink.AEAD, id int) (string, error) {
	var wrapped bytes.Buffer
	err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&wrapped), kek, limit.AppendContext(nil, id))
	return base64.StdEncoding.EncodeToString(wrapped.Bytes()), err
}

func readKeyset(column string, kek tink.AEAD, id int) (*keyset.Handle, error) {
	wrapped, err := base64.StdEncoding.DecodeString(column)
	if err != nil {
		return nil, err
	}
	return keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(wrapped)), kek, limit.AppendContext(nil, id))
}

func clearKeyset(kek tink.AEAD) func(int, string) ([]byte, error) {
	return func(id int, column string) ([]byte, error) {
		h, err := readKeyset(column, kek, id)
		if err != nil {
			return nil, err
		}
		var clear bytes.Buffer
		err = insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&clear))
		return clear.Bytes(), err
	}
}
