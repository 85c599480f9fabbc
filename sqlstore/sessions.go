package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"sync"

	"github.com/jmoiron/sqlx"
)

// A new session costs a server as much as hundreds of records: PostgreSQL starts a
// process, which learns the tables and plans every statement anew. A pool of
// database/sql keeps two idle connections, so the workers of a run would open a new one
// for most of their batches. While a run is on, the store keeps those that its batches
// use.

// sessions are the connections that a store keeps.
type sessions struct {
	mu   sync.Mutex
	held int // the number of runs that are on
	idle []*sqlx.Conn
}

// Hold keeps the connections of batches open until release is called, as
// [rotation.Rotator] does for a run. Of a pool with [sql.DB.SetMaxOpenConns] the store
// keeps at most half.
func (s *Store[R]) Hold() (release func()) {
	if s.usable() != nil {
		return func() {}
	}
	k := &s.sessions
	k.mu.Lock()
	k.held++
	k.mu.Unlock()
	return sync.OnceFunc(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.held--; k.held == 0 {
			k.drop()
		}
	})
}

// inSession calls do with a connection. A kept one that the server has closed meanwhile
// is replaced, as database/sql does itself: no statement has reached the server then.
func (s *Store[R]) inSession(ctx context.Context, do func(*sqlx.Conn) error) error {
	for {
		conn, kept, err := s.takeSession(ctx)
		if err != nil {
			return err
		}
		err = do(conn)
		s.giveSession(conn, err)
		if !kept || !errors.Is(err, driver.ErrBadConn) {
			return err
		}
	}
}

func (s *Store[R]) takeSession(ctx context.Context) (conn *sqlx.Conn, kept bool, err error) {
	k := &s.sessions
	k.mu.Lock()
	if last := len(k.idle) - 1; last >= 0 {
		conn = k.idle[last]
		k.idle = slices.Delete(k.idle, last, last+1)
	}
	k.mu.Unlock()
	if conn != nil {
		return conn, true, nil
	}
	conn, err = s.db.Connx(ctx)
	return conn, false, err
}

// giveSession keeps a connection, or returns it to the pool, which looks whether it is
// still good after an error.
func (s *Store[R]) giveSession(conn *sqlx.Conn, err error) {
	most := s.db.Stats().MaxOpenConnections
	k := &s.sessions
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && k.held > 0 && (most == 0 || len(k.idle) < most/2) {
		k.idle = append(k.idle, conn)
		return
	}
	conn.Close()
	if err != nil && isAway(err) { // the others have ended with it
		k.drop()
	}
}

// drop returns what is kept to the pool.
func (k *sessions) drop() {
	for _, conn := range k.idle {
		conn.Close()
	}
	k.idle = nil
}
