//go:build cgo

package pkcs11

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/kmsencrypted/kmsencrypted"
)

// session is a session with a token. It serves one call at a time.
type session struct {
	library *pkcs11.Ctx
	handle  pkcs11.SessionHandle
}

// sessions are those of one provider, at most cap(room) at a time.
type sessions struct {
	module *module
	uri    uri
	pin    func(context.Context) (string, error) // nil: the token needs none

	room chan struct{}
	mu   sync.Mutex
	idle []*session
	// refused is the hash of a PIN that the token did not take: after a few wrong ones
	// a token locks itself.
	refused *[sha256.Size]byte
	closed  bool
}

// acquire returns a session that is logged in, fresh means one that was not used. The
// caller gives it back with release.
func (s *sessions) acquire(ctx context.Context, fresh bool) (*session, error) {
	select {
	case s.room <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		<-s.room
		return nil, errClosed
	}
	if last := len(s.idle) - 1; last >= 0 && !fresh {
		found := s.idle[last]
		s.idle = s.idle[:last]
		return found, nil
	}
	opened, err := s.open(ctx)
	if err != nil {
		<-s.room
	}
	return opened, err
}

// release keeps a session for the next call. What broke a session has broken those that
// are idle too.
func (s *sessions) release(used *session, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, used)
	if broken {
		s.closeIdle()
	}
	<-s.room
}

func (s *sessions) closeIdle() {
	for _, idle := range s.idle {
		_ = s.module.library.CloseSession(idle.handle)
	}
	s.idle = nil
}

func (s *sessions) open(ctx context.Context) (*session, error) {
	slot, err := s.slot()
	if err != nil {
		return nil, err
	}
	library := s.module.library
	handle, err := library.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return nil, err
	}
	if err := s.login(ctx, handle); err != nil {
		_ = library.CloseSession(handle)
		return nil, err
	}
	return &session{library, handle}, nil
}

// slot finds the token.
func (s *sessions) slot() (uint, error) {
	slots, err := s.module.library.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	var found []uint
	for _, slot := range slots {
		info, err := s.module.library.GetTokenInfo(slot)
		if err == nil && (s.uri.token == "" || info.Label == s.uri.token) && (s.uri.serial == "" || info.SerialNumber == s.uri.serial) {
			found = append(found, slot)
		}
	}
	switch len(found) {
	case 0:
		return 0, errNoToken
	case 1:
		return found[0], nil
	}
	return 0, fmt.Errorf("%w: %d tokens are named so: add serial= to the URI", kmsencrypted.ErrConfig, len(found))
}

// login logs the process in, unless it is.
func (s *sessions) login(ctx context.Context, handle pkcs11.SessionHandle) error {
	if s.pin == nil {
		return nil
	}
	pin, err := s.pin(ctx)
	if err != nil {
		return fmt.Errorf("%w: no PIN: %w", kmsencrypted.ErrDenied, err)
	}
	hash := sha256.Sum256([]byte(pin))
	if s.refused != nil && *s.refused == hash {
		return errSamePIN
	}
	err = s.module.library.Login(handle, pkcs11.CKU_USER, pin)
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		return nil
	}
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)) {
		s.refused = &hash
	}
	return err
}

// close waits for calls that are under way.
func (s *sessions) close() error {
	s.mu.Lock()
	done := s.closed
	s.closed = true
	s.mu.Unlock()
	if done {
		return nil
	}
	for range cap(s.room) {
		s.room <- struct{}{}
	}
	s.closeIdle()
	for range cap(s.room) {
		<-s.room
	}
	return s.module.release()
}
