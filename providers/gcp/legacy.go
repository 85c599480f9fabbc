package gcp

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// DecryptLegacy reads a column of kms_encrypted before 1.0, which names its key:
//
//	$gc$ | base64 of "project/location/ring/key/version" | $ | base64 of the ciphertext
//
// It returns [kmsencrypted.ErrConfig] for a key that is neither the configured
// one nor among [Options].LegacyKeys, and [kmsencrypted.ErrMalformed] for another
// form. In both cases it does not call the service.
func (p *Provider) DecryptLegacy(ctx context.Context, column string, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	keyName, ciphertext, ok := parseLegacy(column)
	if !ok {
		return nil, p.failed("decrypt", kmsencrypted.ErrMalformed)
	}
	if keyName != p.keyName && !slices.Contains(p.legacyKeys, keyName) {
		return nil, p.failed("decrypt", fmt.Errorf("%w: the column names key %q; list it in Options.LegacyKeys if that is right", kmsencrypted.ErrConfig, keyName))
	}
	return p.decrypt(ctx, keyName, ciphertext, ec)
}

// parseLegacy decodes as leniently as Ruby. It ignores the version at the end of
// the name, which may be missing: the ciphertext contains it too.
func parseLegacy(column string) (keyName string, ciphertext []byte, ok bool) {
	body, ok := strings.CutPrefix(column, "$gc$")
	if !ok {
		return "", nil, false
	}
	name, sealed, ok := strings.Cut(body, "$")
	parts := strings.Split(string(rubycompat.Decode64(name)), "/")
	if !ok || len(parts) < 4 {
		return "", nil, false
	}
	keyName = fmt.Sprintf("projects/%s/locations/%s/keyRings/%s/cryptoKeys/%s", parts[0], parts[1], parts[2], parts[3])
	return keyName, rubycompat.Decode64(sealed), keyNameShape.MatchString(keyName)
}
