package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// A new session costs a server as much as hundreds of records: PostgreSQL starts a
// process, which learns the tables and plans every statement anew. A pool of
// database/sql keeps two idle connections, so the workers of a run would open a new one
// for most of their batches. While a run is on, the store keeps those that its batches
// use.
//
// Others need connections too: the ledger, the application, a queue of jobs. A pool may
// have a limit that database/sql does not know, as one over a pgxpool.Pool has, so what no
// batch has used for a moment goes back. Otherwise all could wait for what none uses.

// keepIdle is longer than most calls to a key service between two batches, and short for
// somebody who waits for a connection.
const keepIdle = 100 * time.Millisecond

// sessions are the connections that a store keeps.
type sessions struct {
	mu   sync.Mutex
	held int // the number of runs that are on
	idle []*idleConn
}

// idleConn is a connection between two batches.
type idleConn struct {
	*sqlx.Conn
	expiry *time.Timer
}

// Hold keeps the connections of batches open until release is called, as
// [rotation.Rotator] does for a run. One that no batch uses for 100 ms goes back to the
// pool, and of a pool with [sql.DB.SetMaxOpenConns] the store keeps at most half.
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
	if conn := s.sessions.last(); conn != nil {
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
		k.keep(conn)
		return
	}
	conn.Close()
	if err != nil && sqldialect.Away(err) { // the others have ended with it
		k.drop()
	}
}

// last takes the connection that was used last, so that those which are too many expire.
func (k *sessions) last() *sqlx.Conn {
	k.mu.Lock()
	defer k.mu.Unlock()
	last := len(k.idle) - 1
	if last < 0 {
		return nil
	}
	c := k.idle[last]
	k.idle = slices.Delete(k.idle, last, last+1)
	c.expiry.Stop()
	return c.Conn
}

// keep is called with mu locked.
func (k *sessions) keep(conn *sqlx.Conn) {
	c := &idleConn{Conn: conn}
	c.expiry = time.AfterFunc(keepIdle, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if i := slices.Index(k.idle, c); i >= 0 {
			k.idle = slices.Delete(k.idle, i, i+1)
			c.Close()
		}
	})
	k.idle = append(k.idle, c)
}

// drop returns what is kept to the pool. It is called with mu locked.
func (k *sessions) drop() {
	for _, c := range k.idle {
		c.expiry.Stop()
		c.Close()
	}
	k.idle = nil
}
