// Package indexes compares ways to find a row by an encrypted value. Each gives a
// text in base64 that is the same for the same value.
package indexes

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"

	"github.com/tink-crypto/tink-go/v2/daead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"golang.org/x/crypto/argon2"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
)

const value = "ada.lovelace@example.org"

// index returns the text to search for.
type index struct {
	name, way, otherwise string

	text func(value string) (string, error)
}

const tinkModule = "github.com/tink-crypto/tink-go/v2"

func peers() []index { return []index{tinkDeterministic(), tinkPRF()} }

// Topic returns the jobs.
func Topic(key []byte) job.Topic {
	run := func(x index) func() { return func() { job.OrPanic(x.text(value)) } }
	slow := job.Job{Name: "index of a value, Argon2id (default)", Ours: run(ours(key, blindindex.Argon2id{})), Limit: run(argon2id(key))}
	fast := job.Job{Name: "index of a value, HMAC-SHA-256", Ours: run(ours(key, blindindex.HMAC{})), Limit: run(hmacSHA256(key))}
	for _, x := range peers() {
		p := job.Peer{Name: x.name, Way: x.way, Module: tinkModule, Otherwise: x.otherwise, Run: run(x)}
		fast.Peers = append(fast.Peers, p)
		p.Otherwise = "with a stolen key, values are guessed at this speed, not at Argon2id's"
		slow.Peers = append(slow.Peers, p)
	}
	return job.Topic{Name: "indexes", Title: "Indexes: the search text of a value", Jobs: []job.Job{slow, fast}}
}

func ours(key []byte, a blindindex.Algorithm) index {
	x := job.OrPanic(blindindex.New(key, "email_bidx", blindindex.Options{Algorithm: a}))
	return index{name: "kmsencrypted", text: func(value string) (string, error) {
		column, err := x.Compute(value)
		return column.Text(), err
	}}
}

func argon2id(key []byte) index {
	return index{name: "limit", text: func(value string) (string, error) {
		return base64.StdEncoding.EncodeToString(argon2.IDKey([]byte(value), key, 3, 1<<12, 1, 32)), nil
	}}
}

func hmacSHA256(key []byte) index {
	return index{name: "limit", text: func(value string) (string, error) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(value))
		return base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
	}}
}

// tinkDeterministic is AES-SIV, the usual alternative: one column that can be
// searched and opened.
func tinkDeterministic() index {
	d := job.OrPanic(daead.New(job.OrPanic(keyset.NewHandle(daead.AESSIVKeyTemplate()))))
	return index{
		name: "Tink", way: "deterministic AEAD (AES-SIV)",
		otherwise: "the text can be decrypted: who steals the key of the index reads all values",
		text: func(value string) (string, error) {
			sealed, err := d.EncryptDeterministically([]byte(value), []byte("customers/email"))
			return base64.StdEncoding.EncodeToString(sealed), err
		},
	}
}

func tinkPRF() index {
	set := job.OrPanic(prf.NewPRFSet(job.OrPanic(keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate()))))
	return index{
		name: "Tink", way: "PRF (HMAC-SHA-256)",
		otherwise: "the same function; keeps a keyset, and leaves expressions, sizes and columns to the program",
		text: func(value string) (string, error) {
			sum, err := set.ComputePrimaryPRF([]byte(value), 32)
			return base64.StdEncoding.EncodeToString(sum), err
		},
	}
}
