package awskms

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"syscall"
	"time"
)

// SetClock sets the server's clock ahead of the real one, or behind it if ahead
// is negative.
func (s *Server) SetClock(ahead time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = ahead
}

func (s *Server) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.ahead)
}

// Admit restricts who may call: the credentials of all others have expired.
func (s *Server) Admit(admits func(accessKeyID string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admits = admits
}

var authorizationShape = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/`)

// maxSkew is the maximum difference between the time of a signature and the
// server's.
const maxSkew = 5 * time.Minute

// authenticate checks who signed and when. It does not verify signatures.
func (s *Server) authenticate(r *http.Request) error {
	match := authorizationShape.FindStringSubmatch(r.Header.Get("Authorization"))
	if match == nil {
		return failure("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return failure("IncompleteSignature", "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	}
	switch skew := s.now().Sub(signed); {
	case skew > maxSkew:
		return failure("InvalidSignatureException", "Signature expired: "+r.Header.Get("X-Amz-Date")+" is now earlier than the time of the server - 5 min.")
	case skew < -maxSkew:
		return failure("InvalidSignatureException", "Signature not yet current: "+r.Header.Get("X-Amz-Date")+" is still later than the time of the server + 5 min.")
	}
	s.mu.Lock()
	admits := s.admits
	s.mu.Unlock()
	if admits != nil && !admits(match[1]) {
		return failure("ExpiredTokenException", "The security token included in the request is expired")
	}
	return nil
}

// InProcess is an HTTP client for the SDK whose requests reach the server without
// a network, so that a test can run under testing/synctest.
type InProcess struct{ Server *Server }

// inProcess collects an answer.
type inProcess struct {
	*httptest.ResponseRecorder
	isReset bool
}

// Do serves one request.
func (c InProcess) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	answer := &inProcess{ResponseRecorder: httptest.NewRecorder()}
	c.Server.serve(answer, r)
	if r.Context().Err() != nil {
		return nil, r.Context().Err()
	}
	if answer.isReset {
		if answer.Body.Len() == 0 {
			return nil, errReset
		}
		result := answer.Result()
		result.Body = &cutBody{Reader: bytes.NewReader(answer.Body.Bytes())}
		return result, nil
	}
	return answer.Result(), nil
}

var errReset = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

// cutBody ends with an error in the middle.
type cutBody struct{ *bytes.Reader }

func (b *cutBody) Read(p []byte) (int, error) {
	if b.Len() == 0 {
		return 0, errReset
	}
	return b.Reader.Read(p)
}

func (b *cutBody) Close() error { return nil }
