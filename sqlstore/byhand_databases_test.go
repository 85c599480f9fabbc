package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

var errByHand = errors.New("the loop lost a row, or its lease")

// handPostgres is a connection of pgx, which sends the lists as arrays.
type handPostgres struct {
	conn   *pgx.Conn
	rekeys bool
}

func (h handPostgres) read(ctx context.Context, after, to int64, version, n int) ([]handRow, error) {
	columns := "id, encrypted_kms_key, '', ''"
	if h.rekeys {
		columns = "id, encrypted_kms_key, email_ciphertext, phone_ciphertext"
	}
	found, err := h.conn.Query(ctx, "SELECT "+columns+" FROM byhand WHERE id > $1 AND id <= $2 AND encrypted_kms_key NOT LIKE $3 ORDER BY id LIMIT $4",
		after, to, fmt.Sprintf("v%d:%%", version), n)
	if err != nil {
		return nil, err
	}
	rows := make([]handRow, 0, n)
	var row handRow
	_, err = pgx.ForEachRow(found, []any{&row.id, &row.key, &row.email, &row.phone}, func() error {
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

func (h handPostgres) write(ctx context.Context, run string, shard int, b *handBatch) error {
	return pgx.BeginTxFunc(ctx, h.conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), set_config('lock_timeout', '5s', true)"); err != nil {
			return err
		}
		set, same, lists, columns := "encrypted_kms_key = v.c3", "t.encrypted_kms_key = v.c2", "$2::text[], $3::text[]", "t.encrypted_kms_key, '', ''"
		args := []any{b.ids, b.keys, b.key}
		if h.rekeys {
			set += ", email_ciphertext = v.c5, phone_ciphertext = v.c7"
			same += " AND t.email_ciphertext IS NOT DISTINCT FROM v.c4 AND t.phone_ciphertext IS NOT DISTINCT FROM v.c6"
			lists, columns = lists+", $4::text[], $5::text[], $6::text[], $7::text[]", "t.encrypted_kms_key, t.email_ciphertext, t.phone_ciphertext"
			args = append(args, b.emails, b.email, b.phones, b.phone)
		}
		written, err := tx.Exec(ctx, "UPDATE byhand AS t SET "+set+" FROM unnest($1::bigint[], "+lists+") AS v(c1, c2, c3"+map[bool]string{true: ", c4, c5, c6, c7"}[h.rekeys]+
			") WHERE t.id = v.c1 AND "+same, args...)
		if err != nil || written.RowsAffected() != int64(len(b.ids)) {
			return errors.Join(errByHand, err)
		}
		if _, err := tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
			return err
		}
		stored, err := tx.Query(ctx, "SELECT v.n, "+columns+" FROM unnest($1::bigint[]) WITH ORDINALITY AS v(id, n) JOIN byhand AS t ON t.id = v.id", b.ids)
		if err != nil {
			return err
		}
		var n int
		var row handRow
		if _, err := pgx.ForEachRow(stored, []any{&n, &row.key, &row.email, &row.phone}, func() error { return b.isStored(n-1, row, h.rekeys) }); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO kms_rotation_journal (rotation_id, table_name, store, record, key_column, wrapped_key)
			SELECT $1, 'byhand', 'memory', v.record, 'encrypted_kms_key', v.wrapped FROM unnest($2::text[], $3::text[]) AS v(record, wrapped)`, run, b.records, b.keys); err != nil {
			return err
		}
		moved, err := tx.Exec(ctx, handAdvance("$1", "$2", "$3", "$4"), b.records[len(b.records)-1], len(b.ids), run, shard)
		if err != nil || moved.RowsAffected() != 1 {
			return errors.Join(errByHand, err)
		}
		return nil
	})
}

// handAdvance moves a shard on, if the loop still holds it.
func handAdvance(after, written, run, shard string) string {
	return "UPDATE kms_rotation_shards SET after_key = " + after + ", written = written + " + written + ", beat = beat + 1 WHERE rotation_id = " + run + " AND shard = " + shard +
		" AND owner = 'me' AND done = 0 AND EXISTS (SELECT 1 FROM kms_rotations WHERE id = rotation_id AND state = 'active')"
}

// isStored compares a row that was read back with what was sent.
func (b *handBatch) isStored(i int, row handRow, rekeyed bool) error {
	if row.key != b.key[i] || rekeyed && (row.email != b.email[i] || row.phone != b.phone[i]) {
		return errByHand
	}
	return nil
}

// handMariaDB is a connection of database/sql. The lists are constants in the text of a
// statement, which is the fastest form there.
type handMariaDB struct {
	conn   *sql.Conn
	rekeys bool
}

func (h handMariaDB) read(ctx context.Context, after, to int64, version, n int) ([]handRow, error) {
	columns := "id, encrypted_kms_key, '', ''"
	if h.rekeys {
		columns = "id, encrypted_kms_key, email_ciphertext, phone_ciphertext"
	}
	found, err := h.conn.QueryContext(ctx, fmt.Sprintf("SELECT %s FROM byhand WHERE id > %d AND id <= %d AND encrypted_kms_key NOT LIKE 'v%d:%%' ORDER BY id LIMIT %d", columns, after, to, version, n))
	if err != nil {
		return nil, err
	}
	defer found.Close()
	rows := make([]handRow, 0, n)
	for found.Next() {
		var row handRow
		if err := found.Scan(&row.id, &row.key, &row.email, &row.phone); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, found.Err()
}

// values writes a table of constants; no ciphertext has anything to escape.
func handValues(n int, columns ...[]string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('(')
		for c, column := range columns {
			if c > 0 {
				b.WriteByte(',')
			}
			b.WriteByte('\'')
			b.WriteString(column[i])
			b.WriteByte('\'')
		}
		b.WriteByte(')')
	}
	return b.String()
}

func (h handMariaDB) write(ctx context.Context, run string, shard int, b *handBatch) (err error) {
	tx, err := h.conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	lists, columns := [][]string{b.keys, b.key}, "t.encrypted_kms_key, '', ''"
	names := "0 AS id, '' AS k, '' AS k2"
	set, same := "t.encrypted_kms_key = v.k2", "t.encrypted_kms_key <=> v.k COLLATE utf8mb4_bin"
	if h.rekeys {
		lists, columns = append(lists, b.emails, b.email, b.phones, b.phone), "t.encrypted_kms_key, t.email_ciphertext, t.phone_ciphertext"
		names += ", '' AS e, '' AS e2, '' AS p, '' AS p2"
		set += ", t.email_ciphertext = v.e2, t.phone_ciphertext = v.p2"
		same += " AND t.email_ciphertext <=> v.e COLLATE utf8mb4_bin AND t.phone_ciphertext <=> v.p COLLATE utf8mb4_bin"
	}
	ids := make([]string, len(b.ids))
	var values strings.Builder
	for i, id := range b.ids {
		ids[i] = fmt.Sprint(id)
		if i > 0 {
			values.WriteByte(',')
		}
		fmt.Fprintf(&values, "(%d,", id)
		row := make([][]string, len(lists))
		for c := range lists {
			row[c] = lists[c][i : i+1]
		}
		values.WriteString(handValues(1, row...)[1:])
	}
	result, err := tx.ExecContext(ctx, "UPDATE (SELECT "+names+" FROM DUAL WHERE 1 = 0 UNION ALL VALUES "+values.String()+") AS v STRAIGHT_JOIN byhand AS t SET "+set+" WHERE t.id = v.id AND "+same)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != int64(len(ids)) {
		return errors.Join(errByHand, err)
	}
	stored, err := tx.QueryContext(ctx, "SELECT "+columns+" FROM byhand AS t WHERE t.id IN ("+strings.Join(ids, ",")+") ORDER BY t.id")
	if err != nil {
		return err
	}
	defer stored.Close()
	n := 0
	for ; stored.Next(); n++ {
		var row handRow
		if err := errors.Join(stored.Scan(&row.key, &row.email, &row.phone), b.isStored(n, row, h.rekeys)); err != nil {
			return err
		}
	}
	if err := stored.Err(); err != nil || n != len(ids) {
		return errors.Join(errByHand, err)
	}
	stored.Close()
	same1 := func(s string) []string {
		list := make([]string, len(ids))
		for i := range list {
			list[i] = s
		}
		return list
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO kms_rotation_journal (rotation_id, table_name, store, record, key_column, wrapped_key) VALUES "+
		handValues(len(ids), same1(run), same1("byhand"), same1("memory"), b.records, same1("encrypted_kms_key"), b.keys)); err != nil {
		return err
	}
	moved, err := tx.ExecContext(ctx, handAdvance("?", "?", "?", "?"), b.records[len(b.records)-1], len(ids), run, shard)
	if err != nil {
		return err
	}
	if n, err := moved.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errByHand, err)
	}
	return tx.Commit()
}
