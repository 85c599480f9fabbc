package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// MariaDB and MySQL refuse a statement that is larger than max_allowed_packet, and end
// the connection. So a batch is written with several statements if need be, all in
// one transaction.

// packet is the size of the largest statement, as far as it is known.
type packet struct{ bytes atomic.Int64 }

const (
	// mostStatement is enough for speed, and what no driver refuses by itself.
	mostStatement = 16 << 20
	// aroundValues is left for the text of a statement and the protocol.
	aroundValues = 32 << 10
	// leastPacket is below what servers accept.
	leastPacket = 1 << 10
)

// learnPacket asks for max_allowed_packet.
func (s *Store[R]) learnPacket(ctx context.Context) error {
	if s.dialect != field.MySQL {
		return nil
	}
	var bytes int64
	err := s.db.GetContext(ctx, &bytes, "SELECT @@max_allowed_packet")
	s.packet.bytes.Store(min(bytes, mostStatement))
	return err
}

// shrinks reports whether statements are smaller from now on, because of an error that
// may mean that one was too large: the server ends the connection, which looks like any
// other end of it.
func (s *Store[R]) shrinks(ctx context.Context, err error) bool {
	before := s.packet.bytes.Load()
	switch {
	case s.dialect != field.MySQL || before <= leastPacket:
		return false
	case mentions(err, "Error 1153 ", "packet for query is too large"):
		s.packet.bytes.Store(before / 2)
		return true
	case sqldialect.Away(err):
		return s.learnPacket(ctx) == nil && s.packet.bytes.Load() < before
	}
	return false
}

// errTooLarge is the reason of a failure of a row that fits into no statement.
var errTooLarge = errors.New("the row does not fit into a statement: raise max_allowed_packet")

// updateInPackets makes the updates of a batch with as many statements as they need. A
// row that is too large for one together with its old values in JSON is updated by
// itself, and one that is too large with its old values at all, by their digests.
func (s *Store[R]) updateInPackets(ctx context.Context, tx *sqlx.Tx, w *swap) error {
	room := s.packet.bytes.Load() - aroundValues
	if room < leastPacket {
		room = s.packet.bytes.Load() / 2
	}
	var tooLarge field.Failures
	from, inJSON := 0, int64(0)
	write := func(to int, update func(context.Context, *sqlx.Tx, *swap) error) error {
		if from == to {
			return nil
		}
		part := &swap{run: w.run, set: w.set, same: w.same, updates: w.updates[from:to], written: w.written[from:to]}
		from, inJSON = to, 0
		return update(ctx, tx, part)
	}
	for i, u := range w.updates {
		bytes := u.bytes()
		if inJSON+2*bytes > room {
			if err := write(i, s.updateJoined); err != nil {
				return err
			}
		}
		inJSON += 2 * bytes // in hex
		switch {
		case bytes > room && u.digested().bytes() > room:
			tooLarge = append(tooLarge, field.Failure{Index: i, Err: errTooLarge})
			from, inJSON = i+1, 0
		case bytes > room:
			if err := write(i+1, s.updateDigested); err != nil {
				return err
			}
		case 2*bytes > room:
			if err := write(i+1, s.updateEach); err != nil {
				return err
			}
		}
	}
	if err := write(len(w.updates), s.updateJoined); err != nil {
		return err
	}
	if tooLarge != nil {
		return leftOut{tooLarge}
	}
	return nil
}

// updateDigested is like updateEach for MariaDB and MySQL, and sends SHA-256 digests of
// the old values instead of these.
func (s *Store[R]) updateDigested(ctx context.Context, tx *sqlx.Tx, w *swap) error {
	digested := &swap{run: w.run, set: w.set, same: w.same, written: w.written}
	for _, u := range w.updates {
		digested.updates = append(digested.updates, u.digested())
	}
	same := conditions(s.dialect, w.same)
	for i, c := range w.same {
		same[i].As = "SHA2(CAST(%s AS BINARY), 256)"
		if s.types[c.name].collation != "" { // a digest is of the bytes that were sent
			same[i].As = "SHA2(CONVERT(%s USING utf8mb4), 256)"
		}
	}
	return s.updateWhere(ctx, tx, digested, same)
}

// digested returns the update with digests of the old values.
func (u update) digested() update {
	same := make([]driver.Value, len(u.same))
	for i, v := range u.same {
		switch v := v.(type) {
		case nil:
		case []byte:
			same[i] = fmt.Sprintf("%x", sha256.Sum256(v))
		default:
			same[i] = fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, v)))
		}
	}
	return update{id: u.id, set: u.set, same: same}
}

// bytes is about the size of an update in a statement.
func (u update) bytes() (n int64) {
	add := func(v any) {
		switch v := v.(type) {
		case string:
			n += int64(len(v))
		case []byte:
			n += int64(len(v))
		}
		n += 16
	}
	for _, v := range u.id {
		add(v)
	}
	for i := range u.set {
		add(u.set[i])
	}
	for i := range u.same {
		add(u.same[i])
	}
	return n
}
