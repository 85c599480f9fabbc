package lockbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// A value of 1 MiB, of which the file has the hash of what Lockbox wrote.
func TestLargeVectors(t *testing.T) {
	t.Parallel()
	const file = "lockbox_large.json"
	var v struct {
		Cases []struct{ Name, Key, Nonce, SHA256 string }
	}
	vectors.Load(t, file, &v)
	plaintext := make([]byte, 1<<20)
	for i := range plaintext {
		plaintext[i] = byte((i*31 + 7) % 251)
	}
	ran, unknown := 0, 0
	for _, c := range v.Cases {
		algorithm, padded := strings.CutSuffix(c.Name, ", padding")
		o := Options{Algorithm: Algorithm(algorithm)}
		if padded {
			o.Padding = 16
		}
		key := unhex(t, c.Key)
		box, err := New(key, o)
		if err != nil {
			t.Errorf("%s: New = %v", c.Name, err)
			unknown++
			continue
		}
		sealed, err := withNonce(t, box, key, unhex(t, c.Nonce)).Seal(nil, plaintext, nil)
		if sum := sha256.Sum256(sealed); err != nil || hex.EncodeToString(sum[:]) != c.SHA256 {
			t.Errorf("%s: Seal = %d bytes of SHA-256 %x, %v, want %s", c.Name, len(sealed), sum, err, c.SHA256)
		}
		if got, err := box.Open(nil, sealed, nil); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%s: Open = %d bytes, %v", c.Name, len(got), err)
		}
		ran++
	}
	vectors.Ran(t, file, ran)
	vectors.Skipped(t, file, unknown, "unknown cases")
}
