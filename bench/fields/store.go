// Package fields compares libraries that encrypt five columns of a record. Each
// gives text columns in base64 under a key in memory.
package fields

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// store is a way to encrypt the five strings of a customer.
type store struct {
	name, way, module, otherwise string
	// bound reports whether a column opens only in its own place of its own record.
	bound bool
	seal  func(id int) (row, error)
	open  func(id int, r row) ([5]string, error)
}

// row is what the database stores. key is empty if the library has no key column.
type row struct {
	key     string
	columns [5]string
}

// size is the number of bytes of the text.
func (r row) size() int {
	n := len(r.key)
	for _, c := range r.columns {
		n += len(c)
	}
	return n
}

func peers() []store {
	return []store{tinkEnvelope(), tinkRecord(), hashicorp(), awsEncryptionSDK(), goCloud()}
}

// Topic returns the jobs.
func Topic() job.Topic {
	const id = 7
	us, limit := ours(), least()
	seal := func(s store) func() { return func() { job.OrPanic(s.seal(id)) } }
	open := func(s store) func() {
		r := job.OrPanic(s.seal(id))
		return func() { job.OrPanic(s.open(id, r)) }
	}
	sealing := job.Job{Name: "seal a record of five strings", Ours: seal(us), Limit: seal(limit)}
	opening := job.Job{Name: "open a record of five strings", Ours: open(us), Limit: open(limit)}
	own := job.OrPanic(us.seal(id)).size()
	for _, s := range peers() {
		s.otherwise += fmt.Sprintf("; %d bytes of text a row, we have %d", job.OrPanic(s.seal(id)).size(), own)
		sealing.Peers = append(sealing.Peers, job.Peer{Name: s.name, Way: s.way, Module: s.module, Otherwise: s.otherwise, Run: seal(s)})
		opening.Peers = append(opening.Peers, job.Peer{Name: s.name, Way: s.way, Module: s.module, Otherwise: s.otherwise, Run: open(s)})
	}
	return job.Topic{Name: "fields", Title: "Fields: five strings of a record", Jobs: []job.Job{sealing, opening}}
}

// eachField makes a store of a library that encrypts every field by itself.
func eachField(s store, seal func(plaintext, place []byte) ([]byte, error), open func(sealed, place []byte) ([]byte, error)) store {
	s.seal = func(id int) (r row, err error) {
		for i, text := range limit.Plaintexts {
			sealed, err := seal([]byte(text), place(id, i))
			if err != nil {
				return r, err
			}
			r.columns[i] = base64.StdEncoding.EncodeToString(sealed)
		}
		return r, nil
	}
	s.open = func(id int, r row) (texts [5]string, err error) {
		for i, column := range r.columns {
			sealed, err := base64.StdEncoding.DecodeString(column)
			if err != nil {
				return texts, err
			}
			plaintext, err := open(sealed, place(id, i))
			if err != nil {
				return texts, err
			}
			texts[i] = string(plaintext)
		}
		return texts, nil
	}
	return s
}

// place is what a library that takes associated data binds a column to.
func place(id, column int) []byte {
	return append(strconv.AppendInt(append(make([]byte, 0, 64), "customers/"...), int64(id), 10), "/"+limit.Columns[column]...)
}
