package fields

import (
	"bytes"
	"encoding/base64"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

const tinkModule = "github.com/tink-crypto/tink-go/v2"

func tinkKey() tink.AEAD {
	return job.OrPanic(aead.New(job.OrPanic(keyset.NewHandle(aead.AES256GCMKeyTemplate()))))
}

// tinkEnvelope wraps a key for every field.
func tinkEnvelope() store {
	a := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), tinkKey())
	return eachField(store{
		name: "Tink", way: "an envelope for each field", module: tinkModule, bound: true,
		otherwise: "wraps a key for each field, so five calls to a key service where we make one; no commitment",
	}, a.Encrypt, a.Decrypt)
}

// tinkRecord keeps a keyset for each record, as a program would that wants one wrap.
func tinkRecord() store {
	kek := tinkKey()
	return store{
		name: "Tink", way: "a keyset for each record", module: tinkModule, bound: true,
		otherwise: "one wrap, with the code for key column and places left to the program; no commitment",
		seal: func(id int) (r row, err error) {
			handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
			if err != nil {
				return r, err
			}
			var wrapped bytes.Buffer
			if err := handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&wrapped), kek, limit.AppendContext(nil, id)); err != nil {
				return r, err
			}
			key, err := aead.New(handle)
			if err != nil {
				return r, err
			}
			r, err = eachField(store{}, key.Encrypt, key.Decrypt).seal(id)
			r.key = base64.StdEncoding.EncodeToString(wrapped.Bytes())
			return r, err
		},
		open: func(id int, r row) (texts [5]string, err error) {
			wrapped, err := base64.StdEncoding.DecodeString(r.key)
			if err != nil {
				return texts, err
			}
			handle, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(wrapped)), kek, limit.AppendContext(nil, id))
			if err != nil {
				return texts, err
			}
			key, err := aead.New(handle)
			if err != nil {
				return texts, err
			}
			return eachField(store{}, key.Encrypt, key.Decrypt).open(id, r)
		},
	}
}
