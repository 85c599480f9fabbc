package azure

import (
	"fmt"
	"regexp"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kmsencrypted/kmsencrypted"
)

// wrapped is a ciphertext of this provider (spec/azure.md). The service returns
// neither the version nor the algorithm in its own ciphertexts, and it needs both.
type wrapped struct {
	algorithm byte
	version   string
	body      []byte
}

const (
	formatByte = 1
	ivSize     = 12
	tagSize    = 16
)

// versionShape is strict because the version becomes part of a URL.
var versionShape = regexp.MustCompile(`^[0-9a-f]{32}$`)

const versionSize = 32

// encode returns
//
//	format 1 | algorithm 1 | version 32 | body
func (w wrapped) encode() []byte {
	out := make([]byte, 0, 2+versionSize+len(w.body))
	out = append(out, formatByte, w.algorithm)
	out = append(out, w.version...)
	return append(out, w.body...)
}

func decode(ciphertext []byte) (w wrapped, ok bool) {
	if len(ciphertext) <= 2+versionSize || ciphertext[0] != formatByte {
		return wrapped{}, false
	}
	w = wrapped{ciphertext[1], string(ciphertext[2 : 2+versionSize]), ciphertext[2+versionSize:]}
	return w, versionShape.MatchString(w.version)
}

// fromResult checks an answer to a wrap. The body of an AES-GCM ciphertext is
//
//	iv 12 | ciphertext | tag 16
func (p *Provider) fromResult(result azkeys.KeyOperationResult) (wrapped, error) {
	w := wrapped{algorithm: p.algorithm.code, body: result.Result}
	if result.KID == nil || result.KID.Name() != p.name || !versionShape.MatchString(result.KID.Version()) {
		return wrapped{}, fmt.Errorf("%w: the answer does not name a version of the key", kmsencrypted.ErrUnavailable)
	}
	w.version = result.KID.Version()
	if p.algorithm.name == AES256GCM {
		if len(result.IV) != ivSize || len(result.AuthenticationTag) != tagSize {
			return wrapped{}, fmt.Errorf("%w: the answer lacks the nonce or the tag", kmsencrypted.ErrUnavailable)
		}
		w.body = append(append(append([]byte(nil), result.IV...), result.Result...), result.AuthenticationTag...)
	}
	if len(w.body) == 0 {
		return wrapped{}, fmt.Errorf("%w: the answer lacks the value", kmsencrypted.ErrUnavailable)
	}
	return w, nil
}
