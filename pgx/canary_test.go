package kmspgx_test

import (
	"io"
	"net"
	"testing"
)

// recorder notes a failure.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Error(...any) { r.failed = true }

// The canary sees the secret however it is cut.
func TestCanary(t *testing.T) {
	t.Parallel()
	for cut := range len(secret) {
		here, there := net.Pipe()
		go io.Copy(io.Discard, there)
		r := &recorder{TB: t}
		c := &canary{Conn: here, t: r}
		for _, part := range []string{"a " + secret[:cut], secret[cut:] + " b"} {
			if r.failed {
				t.Errorf("cut at %d: too early", cut)
			}
			_, err := c.Write([]byte(part))
			must(t, err)
		}
		if !r.failed {
			t.Errorf("cut at %d: not seen", cut)
		}
		here.Close()
	}
}
