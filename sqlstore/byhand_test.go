package sqlstore_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// What a rotation costs is told beside the loop that somebody writes by hand for one
// table. It uses AES-GCM of the standard library and nothing of this module, and does
// what a rotation has to do with each batch: it reads, unwraps and wraps, and in one
// transaction updates what is unchanged, reads that back and compares it, keeps the
// replaced keys in the journal, and moves its shard on while it holds the lease. It
// derives no keys, commits to none, finds no failures and looks only once.

// memoryKey is a provider that wraps in memory with one AES-GCM.
type memoryKey struct {
	aead cipher.AEAD
	id   string
}

func newMemoryKey(id string) memoryKey {
	key := make([]byte, 32)
	rand.Read(key)
	return memoryKey{gcm(key), id}
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func (k memoryKey) Info() kmsencrypted.KeyInfo {
	return kmsencrypted.KeyInfo{Provider: "memory", KeyID: k.id, Tag: "memory"}
}

func (memoryKey) InMemory() {}

func (k memoryKey) Encrypt(_ context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	return k.aead.Seal(nil, nil, plaintext, ec.Bytes()), nil
}

func (k memoryKey) Decrypt(_ context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	return k.aead.Open(nil, nil, ciphertext, ec.Bytes())
}

// handRow is a row of the loop: texts as in the table.
type handRow struct {
	id                int64
	key, email, phone string
}

// handBatch is a batch of the loop, one list for each column of a statement.
type handBatch struct {
	ids                  []int64
	records              []string // the ids as the journal has them
	keys, emails, phones []string // as they were read
	key, email, phone    []string // as they are written
}

// handDatabase is what the loop needs of a database.
type handDatabase interface {
	// read reads up to n rows after an id that are not at the version.
	read(ctx context.Context, after, to int64, version, n int) ([]handRow, error)
	// write writes a batch in one transaction, as described above.
	write(ctx context.Context, run string, shard int, b *handBatch) error
}

// byHand rotates the table "byhand" with so many workers and returns the number of
// rows.
type byHand struct {
	keys    map[int]cipher.AEAD // by version
	rekeys  bool
	rows    int64
	workers int
	open    func() handDatabase // a connection for a worker
}

const handBatchSize = 1000

func (h *byHand) rotate(b *testing.B, run string, target int) (written int64) {
	counts, each := make([]int64, h.workers), h.rows/int64(h.workers)+1
	var workers sync.WaitGroup
	for w := range h.workers {
		db := h.open()
		workers.Go(func() {
			after, to := int64(w)*each, int64(w+1)*each
			for {
				rows, err := db.read(b.Context(), after, to, target, handBatchSize)
				if err != nil {
					b.Error(err)
					return
				}
				if len(rows) == 0 {
					return
				}
				batch := h.move(rows, target)
				if err := db.write(b.Context(), run, w, batch); err != nil {
					b.Error(err)
					return
				}
				counts[w] += int64(len(rows))
				after = rows[len(rows)-1].id
			}
		})
	}
	workers.Wait()
	for _, n := range counts {
		written += n
	}
	return written
}

// The layout of a key column and of a column (spec/native.md), with a commitment and a
// key tag that are only copied.
const (
	wrapAt = 1 + 32 + 1 + 1 + len("memory") + 2
	tagEnd = 1 + 8
)

var handAD = [2][]byte{handFieldAD("email_ciphertext"), handFieldAD("phone_ciphertext")}

func handFieldAD(column string) (ad []byte) {
	for _, s := range []string{"kmsencrypted/1 field", "byhand", column, "string"} {
		ad = append(binary.BigEndian.AppendUint32(ad, uint32(len(s))), s...)
	}
	return ad
}

func handContext(id int64) []byte {
	return fmt.Appendf(make([]byte, 0, 64), `{"model_id":"%d","model_name":"byhand"}`, id)
}

// move does in memory what the rotation is about.
func (h *byHand) move(rows []handRow, target int) *handBatch {
	n := len(rows)
	texts := make([]string, 7*n)
	list := func() []string {
		some := texts[:n:n]
		texts = texts[n:]
		return some
	}
	b := &handBatch{ids: make([]int64, n), records: list(), keys: list(), key: list(), emails: list(), phones: list(), email: list(), phone: list()}
	var raw, out []byte
	for i, row := range rows {
		ad := handContext(row.id)
		raw = decoded(raw, row.key[3:])
		dataKey, err := h.keys[3-target].Open(nil, nil, raw[wrapAt:], ad)
		if err != nil {
			panic(err)
		}
		if h.rekeys {
			next := make([]byte, 32)
			rand.Read(next)
			from, to := gcm(dataKey), gcm(next)
			b.emails[i], b.phones[i] = row.email, row.phone
			b.email[i], b.phone[i] = resealed(from, to, row.email, 0), resealed(from, to, row.phone, 1)
			dataKey = next
		}
		out = h.keys[target].Seal(append(out[:0], raw[:wrapAt]...), nil, dataKey, ad)
		b.ids[i], b.keys[i], b.key[i] = row.id, row.key, encoded("v"+string(rune('0'+target))+":", out)
		b.records[i] = fmt.Sprintf(`["i%d"]`, row.id)
	}
	return b
}

func decoded(room []byte, text string) []byte {
	raw, err := base64.StdEncoding.AppendDecode(room[:0], []byte(text))
	if err != nil {
		panic(err)
	}
	return raw
}

func encoded(prefix string, raw []byte) string {
	return string(base64.StdEncoding.AppendEncode(append(make([]byte, 0, 256), prefix...), raw))
}

func resealed(from, to cipher.AEAD, column string, at int) string {
	raw := decoded(nil, column)
	plaintext, err := from.Open(nil, nil, raw[tagEnd:], handAD[at])
	if err != nil {
		panic(err)
	}
	return encoded("", to.Seal(raw[:tagEnd:tagEnd], nil, plaintext, handAD[at]))
}

// first makes the rows of the table at version 1.
func (h *byHand) first() (rows []handRow) {
	for id := int64(1); id <= h.rows; id++ {
		dataKey, head := make([]byte, 32), make([]byte, wrapAt)
		rand.Read(dataKey)
		head[0], head[33] = 1, 1
		copy(head[34:], "\x06memory\x00\x3c")
		c := gcm(dataKey)
		seal := func(text string, at int) string {
			return encoded("", c.Seal(append(make([]byte, 0, 64), 0xC1, 1, 2, 3, 4, 5, 6, 7, 8), nil, []byte(text), handAD[at]))
		}
		rows = append(rows, handRow{id, encoded("v1:", h.keys[1].Seal(head, nil, dataKey, handContext(id))), seal(benchEmail, 0), seal(benchPhone, 1)})
	}
	return rows
}

const (
	benchEmail = "somebody@example.org"
	benchPhone = "+49 30 1234567"
)

// startByHand makes the run of the loop, with a shard for each worker.
func startByHand(exec func(query string, args ...any) error, workers int) (run string, err error) {
	run = rand.Text()
	err = exec(fmt.Sprintf(`INSERT INTO kms_rotations (id, table_name, kind, target, pass, state, planned, started) VALUES ('%s', 'byhand', '%s', 1, 1, 'active', 0, 0)`, run, rotation.Rewrap))
	for w := range workers {
		if err == nil {
			err = exec(fmt.Sprintf(`INSERT INTO kms_rotation_shards (rotation_id, shard, from_key, after_key, to_key, done, owner, lease_until, beat, written, conflicts, calls, busy, pass_changes, pass_conflicts, pass_failed)
				VALUES ('%s', %d, '', '', '', 0, 'me', 0, 0, 0, 0, 0, 0, 0, 0, 0)`, run, w))
		}
	}
	return run, err
}
