package awskms

import (
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"time"
)

// Fault changes how calls are answered. Delay applies first, then the first of
// Hang, Reset, Cut and Error that is set. Without one the call continues as
// usual.
type Fault struct {
	Op    string  // the operation affected; empty means all
	Times int     // number of calls affected; 0 means all until the fault is removed
	Share float64 // share of these calls, at random; 0 means all

	Delay time.Duration
	Hang  bool   // no answer until the client gives up
	Reset bool   // the connection is reset
	Cut   bool   // the connection is reset in the middle of an answer
	Error string // the exception to answer with, such as ThrottlingException
}

// Inject adds a fault and returns the function that removes it. If several affect
// a call, the first is used.
func (s *Server) Inject(f Fault) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	injected := &f
	s.faults = append(s.faults, injected)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(injected)
	}
}

func (s *Server) drop(f *Fault) {
	s.faults = slices.DeleteFunc(s.faults, func(o *Fault) bool { return o == f })
}

// nextFault counts the use of the fault that it returns.
func (s *Server) nextFault(op string) *Fault {
	for _, f := range s.faults {
		if f.Op != "" && f.Op != op || f.Share > 0 && rand.Float64() >= f.Share {
			continue
		}
		met := *f
		if f.Times == 1 {
			s.drop(f)
		} else if f.Times > 1 {
			f.Times--
		}
		return &met
	}
	return nil
}

// serve reports whether the fault answered the call.
func (f *Fault) serve(w http.ResponseWriter, r *http.Request) bool {
	select {
	case <-time.After(f.Delay):
	case <-r.Context().Done():
		return true
	}
	switch {
	case f.Hang:
		<-r.Context().Done()
	case f.Reset:
		reset(w)
	case f.Cut:
		w.Header().Set("Content-Length", "1000")
		w.Write([]byte(`{"KeyId":"arn:aws`))
		http.NewResponseController(w).Flush()
		reset(w)
	case f.Error != "":
		reply(w, nil, failure(f.Error, injectedMessages[f.Error]))
	default:
		return false
	}
	return true
}

var injectedMessages = map[string]string{
	"AccessDeniedException": "User: arn:aws:iam::" + Account + ":user/test is not authorized to perform the operation",
	"ThrottlingException":   "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
}

func reset(w http.ResponseWriter) {
	if answer, ok := w.(*inProcess); ok {
		answer.isReset = true
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic("awskms: cannot take over the connection: " + err.Error())
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) // closing sends RST
	}
	conn.Close()
}

// apiError is an exception as the service writes it.
type apiError struct {
	Type    string `json:"__type"`
	Message string `json:"message,omitempty"`
}

func failure(exception, message string) *apiError { return &apiError{exception, message} }

func (e *apiError) Error() string { return e.Type + ": " + e.Message }

func (e *apiError) status() int {
	switch e.Type {
	case "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException":
		return http.StatusInternalServerError
	case "ServiceUnavailableException":
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}
