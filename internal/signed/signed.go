// Package signed signs what a client carries and brings back, such as links and uploads:
// anybody who has it can read it, and nobody can change it.
package signed

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// minSecret is the minimum size of a signing secret in bytes.
const minSecret = 32

// Keys sign and verify. The zero value verifies nothing. Keys are safe for concurrent use.
type Keys struct{ hidden secret.Pointer[[][]byte] }

// New derives a key for one use from each secret. The first one signs, and all verify.
// It returns [kmsencrypted.ErrConfig] without a secret, and for one of fewer than 32 bytes.
func New(use string, secrets ...[]byte) (Keys, error) {
	if len(secrets) == 0 {
		return Keys{}, fmt.Errorf("%w: no secret", kmsencrypted.ErrConfig)
	}
	keys := make([][]byte, len(secrets))
	for i, s := range secrets {
		if len(s) < minSecret {
			return Keys{}, fmt.Errorf("%w: a secret of %d bytes, want %d random ones", kmsencrypted.ErrConfig, len(s), minSecret)
		}
		var err error
		if keys[i], err = hkdf.Key(sha256.New, s, nil, use, sha256.Size); err != nil {
			return Keys{}, err
		}
	}
	return Keys{secret.Hide(keys)}, nil
}

// Sign returns a token: letters, digits, "-", "_" and one ".". Keys must have been made by New.
func (k Keys) Sign(purpose string, said []byte) string {
	return encode(said) + "." + encode(mac((*k.hidden.Get())[0], purpose, said))
}

// Verify returns what was signed for this purpose, and false for every other token.
func (k Keys) Verify(token, purpose string) (said []byte, ok bool) {
	keys := k.hidden.Get()
	if keys == nil {
		return nil, false
	}
	first, second, _ := strings.Cut(token, ".")
	said, sum := decode(first), decode(second)
	for _, key := range *keys {
		if said != nil && hmac.Equal(sum, mac(key, purpose, said)) {
			return said, true
		}
	}
	return nil, false
}

func mac(key []byte, purpose string, said []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(canon.AppendBytes(canon.Strings(purpose), said))
	return mac.Sum(nil)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode returns nil for text that encode does not write.
func decode(text string) []byte {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil
	}
	return b
}
