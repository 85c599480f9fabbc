package kmsgorm_test

import (
	"database/sql"
	"testing"
	"time"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// What the plugin costs, on PostgreSQL over loopback with a key service in memory. The
// limit is GORM without the plugin and with plaintext columns in a table without a key
// column; the measure is the CPU time of this process. The aims are those of package
// kmssqlx; what is promised here is what was reached.

type five struct {
	ID  int64            `db:"id"`
	Key field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	A   field.Of[string] `db:"a" gorm:"type:text"`
	B   field.Of[string] `db:"b" gorm:"type:text"`
	C   field.Of[string] `db:"c" gorm:"type:text"`
	D   field.Of[string] `db:"d" gorm:"type:text"`
	E   field.Of[string] `db:"e" gorm:"type:text"`
}

func (five) TableName() string { return "customers" }

type plainFive struct {
	ID            int64
	A, B, C, D, E string
}

func (plainFive) TableName() string { return "plain" }

const page = 1000

func newFive(id int64) five {
	return five{
		ID: id, A: field.New(limit.Plaintexts[0]), B: field.New(limit.Plaintexts[1]), C: field.New(limit.Plaintexts[2]),
		D: field.New(limit.Plaintexts[3]), E: field.New(limit.Plaintexts[4]),
	}
}

func newPlainFive(id int64) plainFive {
	return plainFive{id, limit.Plaintexts[0], limit.Plaintexts[1], limit.Plaintexts[2], limit.Plaintexts[3], limit.Plaintexts[4]}
}

// newPage returns so many new records with ids.
func newPage[R any](record func(int64) R) []R {
	rows := make([]R, page)
	for i := range rows {
		rows[i] = record(int64(i) + 1)
	}
	return rows
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// newBench returns GORM without and with the plugin, on a database with the tables
// plain and customers.
func newBench(b *testing.B, cache *kmsencrypted.CacheConfig) (plain, ours *gorm.DB) {
	b.Helper()
	raw, err := sql.Open("pgx", dbserver.Postgres(b))
	must(b, err)
	b.Cleanup(func() { raw.Close() })
	raw.SetMaxOpenConns(1)
	open := func() *gorm.DB {
		db, err := gorm.Open(dialector{sqlite.Dialector{Conn: raw}}, &gorm.Config{Logger: logger.Discard})
		must(b, err)
		return db.WithContext(b.Context())
	}
	plain, ours = open(), open()
	const rest = "a text, b text, c text, d text, e text)"
	must(b, plain.Exec("CREATE TABLE customers (id bigserial PRIMARY KEY, encrypted_kms_key text, "+rest).Error)
	must(b, plain.Exec("CREATE TABLE plain (id bigserial PRIMARY KEY, "+rest).Error)
	box, err := kmsencrypted.Config{
		Current: 1, Cache: cache, Versions: map[int]kmsencrypted.Version{1: {Provider: limit.NewKey()}},
	}.Box()
	must(b, err)
	m, err := field.NewModel[five](box, field.Config{Table: "customers"})
	must(b, err)
	must(b, ours.Use(kmsgorm.New(m)))
	return plain, ours
}

// withKeys runs a benchmark of reading with data keys that are unwrapped for each read,
// and with the keys of all records in the cache, each with a limit of its own.
func withKeys(b *testing.B, unwrapped, cached float64, measure func(b *testing.B, plain, ours *gorm.DB, most float64)) {
	run := func(name string, cache *kmsencrypted.CacheConfig, most float64) {
		b.Run(name, func(b *testing.B) {
			plain, ours := newBench(b, cache)
			measure(b, plain, ours, most)
		})
	}
	run("unwrapped", nil, unwrapped)
	run("cached", &kmsencrypted.CacheConfig{MaxAge: time.Hour}, cached)
}

func BenchmarkFind1000Postgres(b *testing.B) {
	withKeys(b, 8, 7, func(b *testing.B, plain, ours *gorm.DB, most float64) {
		must(b, plain.Create(newPage(newPlainFive)).Error)
		must(b, ours.Create(newPage(newFive)).Error)
		against.CPU(b, page, most, func() {
			var rows []plainFive
			must(b, plain.Order("id").Find(&rows).Error)
		}, func() {
			var rows []five
			must(b, ours.Order("id").Find(&rows).Error)
		})
	})
}

func BenchmarkTakePostgres(b *testing.B) {
	withKeys(b, 2.1, 2.0, func(b *testing.B, plain, ours *gorm.DB, most float64) {
		must(b, plain.Create(new(newPlainFive(1))).Error)
		must(b, ours.Create(new(newFive(1))).Error)
		against.CPU(b, 1, most, func() {
			var r plainFive
			must(b, plain.Take(&r, 1).Error)
		}, func() {
			var r five
			must(b, ours.Take(&r, 1).Error)
		})
	})
}

func BenchmarkCreate1000Postgres(b *testing.B) {
	plain, ours := newBench(b, nil)
	against.CPU(b, page, 5.2, func() {
		must(b, plain.Exec("TRUNCATE plain").Error)
		must(b, plain.Create(newPage(newPlainFive)).Error)
	}, func() {
		must(b, plain.Exec("TRUNCATE customers").Error)
		must(b, ours.Create(newPage(newFive)).Error)
	})
}

func BenchmarkCreatePostgres(b *testing.B) {
	plain, ours := newBench(b, nil)
	var id int64
	against.CPU(b, 1, 2.5, func() {
		id++
		must(b, plain.Create(new(newPlainFive(id))).Error)
	}, func() {
		id++
		must(b, ours.Create(new(newFive(id))).Error)
	})
}
