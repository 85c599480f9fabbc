// Package rotation compares libraries that move wrapped data keys from one key in
// memory to another. Nothing here reads or writes a database: for that see
// BenchmarkRewrapPostgres of package sqlstore.
package rotation

import "github.com/kmsencrypted/kmsencrypted/bench/job"

// rows is the number of key columns in the job.
const rows = 1000

// mover moves the key columns of the records 0, 1, … from an old key to a new one.
// Columns are text in base64, bound to their record.
type mover struct {
	name, way, module, otherwise string
	// wrap returns the column of a new data key under the old key.
	wrap func(id int) (string, error)
	move func(columns []string) ([]string, error)
	// before and after open a column under the old and the new key.
	before, after func(id int, column string) (dataKey []byte, err error)
}

func peers() []mover { return []mover{tinkKeysets(), hashicorp()} }

// Topic returns the job.
func Topic() job.Topic {
	run := func(m mover) func() {
		columns := make([]string, rows)
		for id := range columns {
			columns[id] = job.OrPanic(m.wrap(id))
		}
		return func() { job.OrPanic(m.move(columns)) }
	}
	rewrap := job.Job{Name: "rewrap 1,000 data keys", Ours: run(ours()), Limit: run(least())}
	for _, m := range peers() {
		rewrap.Peers = append(rewrap.Peers, job.Peer{Name: m.name, Way: m.way, Module: m.module, Otherwise: m.otherwise, Run: run(m)})
	}
	return job.Topic{Name: "rotation", Title: "Rotation: the data keys of 1,000 records", Jobs: []job.Job{rewrap}}
}

// each makes a loop over the columns.
func each(move func(id int, column string) (string, error)) func([]string) ([]string, error) {
	return func(columns []string) (moved []string, err error) {
		moved = make([]string, len(columns))
		for id, column := range columns {
			if moved[id], err = move(id, column); err != nil {
				return nil, err
			}
		}
		return moved, nil
	}
}
