package rotatecli_test

import (
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cells are the encrypted columns of a customer.
type cells map[string]string

// damages are what may have become of a row, and what a rekey says of it.
var damages = []struct {
	class  string
	damage func(row, other cells)
}{
	{"version-not-active", func(row, _ cells) { row["encrypted_kms_key"] = "v9" + row["encrypted_kms_key"][2:] }},
	{"malformed", func(row, _ cells) { row["encrypted_kms_key"] = row["encrypted_kms_key"][:20] }},
	{"malformed", func(row, _ cells) { row["encrypted_kms_key"] = "v1:*" + row["encrypted_kms_key"][4:] }},
	{"malformed", func(row, _ cells) { row["encrypted_kms_key"] = "" }},
	{"decrypt", func(row, _ cells) { row["encrypted_kms_key"] = flipped(row["encrypted_kms_key"], -20) }},
	{"binding", func(row, _ cells) { row["encrypted_kms_key"] = flipped(row["encrypted_kms_key"], 10) }},
	{"decrypt", func(row, other cells) { maps.Copy(row, other) }}, // a whole other row
	{"binding", func(row, _ cells) { row["encrypted_kms_key"] = row["encrypted_kms_key_phone"] }},
	{"no-data-key", func(row, _ cells) { delete(row, "encrypted_kms_key_phone") }},
	{"not-ciphertext", func(row, _ cells) { row["email_ciphertext"] = secretEmail }},
	{"not-ciphertext", func(row, _ cells) { row["email_ciphertext"] = "" }},
	{"malformed", func(row, _ cells) { row["email_ciphertext"] = row["email_ciphertext"][:24] }},
	{"decrypt", func(row, _ cells) { row["email_ciphertext"] = flipped(row["email_ciphertext"], -20) }},
	{"other-data-key", func(row, other cells) { row["phone_ciphertext"] = other["phone_ciphertext"] }},
	{"other-data-key", func(row, _ cells) { row["phone_ciphertext"] = row["email_ciphertext"] }},
}

// flipped changes a bit of the byte at a place of "…:base64" or base64, counted
// from its end if it is below 0.
func flipped(text string, at int) string {
	head, body, found := strings.Cut(text, ":")
	if !found {
		head, body = "", text
	}
	raw, err := base64.StdEncoding.DecodeString(body)
	check(err)
	if at < 0 {
		at += len(raw)
	}
	raw[at] ^= 1
	return strings.TrimPrefix(head+":", ":") + base64.StdEncoding.EncodeToString(raw)
}

const badRows = 50

// spoiledRow is one of the 50.
func spoiledRow(i int) int { return 11 + i*181 }

func spoiledName(i int) string { return fmt.Sprintf("id=%d", spoiledRow(i)) }

// spoil damages 50 customers in all ways and writes their names and classes to the
// file spoiled.json. "spoil mend N" puts right all that are still in the file but
// the last N of the 50, which stay in it.
func spoil() {
	db := openIn(".")
	defer db.Close()
	if len(os.Args) > 2 {
		left, err := strconv.Atoi(os.Args[2])
		check(err)
		mend(db, badRows-left)
		return
	}
	_, err := db.Exec("CREATE TABLE sound AS SELECT * FROM customers")
	check(err)
	read := func(id int) cells {
		var key, phoneKey, email, phone string
		check(db.QueryRow("SELECT encrypted_kms_key, encrypted_kms_key_phone, email_ciphertext, phone_ciphertext FROM sound WHERE id = ?", id).
			Scan(&key, &phoneKey, &email, &phone))
		return cells{"encrypted_kms_key": key, "encrypted_kms_key_phone": phoneKey, "email_ciphertext": email, "phone_ciphertext": phone}
	}
	want := make(map[string]string)
	for i := range badRows {
		row, d := read(spoiledRow(i)), damages[i%len(damages)]
		d.damage(row, read(spoiledRow(i)+1))
		value := func(column string) any {
			if v, ok := row[column]; ok {
				return v
			}
			return nil
		}
		_, err := db.Exec("UPDATE customers SET encrypted_kms_key = ?, encrypted_kms_key_phone = ?, email_ciphertext = ?, phone_ciphertext = ? WHERE id = ?",
			value("encrypted_kms_key"), value("encrypted_kms_key_phone"), value("email_ciphertext"), value("phone_ciphertext"), spoiledRow(i))
		check(err)
		want[spoiledName(i)] = d.class
	}
	writeSpoiled(want)
}

// mend puts rows right as they were before, the first ones up to a number.
func mend(db *sql.DB, to int) {
	var spoiled map[string]string
	text, err := os.ReadFile("spoiled.json")
	check(err)
	check(json.Unmarshal(text, &spoiled))
	for i := range to {
		if _, bad := spoiled[spoiledName(i)]; bad {
			_, err := db.Exec("REPLACE INTO customers SELECT * FROM sound WHERE id = ?", spoiledRow(i))
			check(err)
			delete(spoiled, spoiledName(i))
		}
	}
	writeSpoiled(spoiled)
}

func writeSpoiled(want map[string]string) {
	text, err := json.Marshal(want)
	check(err)
	check(os.WriteFile("spoiled.json", text, 0o600))
}

// lists makes sure that the standard output, of "rotate status --failures --json",
// has the records of spoiled.json, each once, with its class and a reason.
func lists(ts *testscript.TestScript, _ bool, _ []string) {
	var want map[string]string
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("spoiled.json")), &want))
	var tables []struct {
		Failures []struct{ Record, Class, Reason string }
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &tables))
	seen := make(map[string]bool)
	for _, f := range tables[0].Failures {
		if f.Class != want[f.Record] || f.Reason == "" || seen[f.Record] {
			ts.Logf("%s: %s, want %s: %s", f.Record, f.Class, want[f.Record], f.Reason)
		}
		seen[f.Record] = f.Class == want[f.Record] && f.Reason != "" && !seen[f.Record]
	}
	for record, class := range want {
		if !seen[record] {
			ts.Fatalf("%s is not listed as %s", record, class)
		}
	}
	if len(tables[0].Failures) != len(want) {
		ts.Fatalf("%d failures, want %d", len(tables[0].Failures), len(want))
	}
}
