package attach

import (
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// recoveryText is the text of a recovery wrap in its parts (spec/files.md section 4.2):
//
//	fr2:<file id>:<record key>:<secret>
//	fr1:<file id>:<secret>               of a record whose key column has no commitment
type recoveryText struct {
	file   files.ID
	record string // see recordKey
	secret string // of the Box
}

const (
	recoveryPrefix      = "fr1:"
	keyedRecoveryPrefix = "fr2:"
)

func parseRecovery(text string) (t recoveryText, err error) {
	rest, keyed := strings.CutPrefix(text, keyedRecoveryPrefix)
	if !keyed {
		var ok bool
		if rest, ok = strings.CutPrefix(text, recoveryPrefix); !ok {
			return t, fmt.Errorf("attach: recovery wrap: %w", kmsencrypted.ErrNotCiphertext)
		}
	}
	digits, rest, ok := strings.Cut(rest, ":")
	if keyed && ok {
		t.record, rest, ok = strings.Cut(rest, ":")
		ok = ok && isRecordKey(t.record)
	}
	t.secret = rest
	if t.file, err = files.ParseID(digits); err != nil || !ok || t.file.String() != digits {
		return recoveryText{}, malformedCard()
	}
	return t, nil
}

func (t recoveryText) String() string {
	if t.record != "" {
		return keyedRecoveryPrefix + t.file.String() + ":" + t.record + ":" + t.secret
	}
	return recoveryPrefix + t.file.String() + ":" + t.secret
}

// context is the encryption context of the secret.
func (t recoveryText) context(store string) kmsencrypted.EncryptionContext {
	pairs := kmsencrypted.OrderedContext{
		{Name: "store", Value: store}, {Name: "purpose", Value: "file recovery"}, {Name: "file_id", Value: t.file.String()}}
	if t.record != "" {
		pairs = append(pairs, kmsencrypted.Pair{Name: "record_key", Value: t.record})
	}
	return pairs
}
