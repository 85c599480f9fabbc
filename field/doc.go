// Package field encrypts columns: fields of type [Of] of a struct, under a data
// key of the record that a key service wraps. A [Model] seals a record before the
// program writes it, and opens it after the program read it.
//
//	package main
//
//	import (
//		"context"
//		"database/sql"
//		"fmt"
//		"log"
//
//		_ "modernc.org/sqlite"
//
//		"github.com/kmsencrypted/kmsencrypted"
//		"github.com/kmsencrypted/kmsencrypted/field"
//		"github.com/kmsencrypted/kmsencrypted/providers/testkey" // for tests; see the folder providers
//	)
//
//	type Customer struct {
//		ID    int64            `db:"id"`
//		Name  string           `db:"name"`              // stays plain
//		Key   field.Key        `db:"encrypted_kms_key"` // the wrapped data key of the record
//		Email field.Of[string] `db:"email_ciphertext"`
//	}
//
//	func main() {
//		if err := run(context.Background()); err != nil {
//			log.Fatal(err)
//		}
//	}
//
//	func run(ctx context.Context) error {
//		db, err := sql.Open("sqlite", "file:customers?mode=memory&cache=shared")
//		if err != nil {
//			return err
//		}
//		defer db.Close()
//		if _, err := db.Exec("CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, encrypted_kms_key TEXT, email_ciphertext TEXT)"); err != nil {
//			return err
//		}
//		box, err := kmsencrypted.NewBox(testkey.New())
//		if err != nil {
//			return err
//		}
//		customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
//		if err != nil {
//			return err
//		}
//
//		// Seal and store.
//		ada := Customer{ID: 7, Name: "Ada", Email: field.New("ada@example.org")}
//		if err := customers.Seal(ctx, &ada); err != nil {
//			return err
//		}
//		if _, err := db.ExecContext(ctx, "INSERT INTO customers VALUES (?, ?, ?, ?)", ada.ID, ada.Name, ada.Key, ada.Email); err != nil {
//			return err
//		}
//
//		// Read and open.
//		var c Customer
//		row := db.QueryRowContext(ctx, "SELECT id, name, encrypted_kms_key, email_ciphertext FROM customers WHERE id = ?", 7)
//		if err := row.Scan(&c.ID, &c.Name, &c.Key, &c.Email); err != nil {
//			return err
//		}
//		if err := customers.Open(ctx, &c); err != nil {
//			return err
//		}
//		fmt.Println(c.Name, c.Email.Must())
//
//		// Update: the row must still have the data key that was read.
//		c.Email.Set("countess@example.org")
//		if err := customers.Seal(ctx, &c); err != nil {
//			return err
//		}
//		result, err := db.ExecContext(ctx, "UPDATE customers SET email_ciphertext = ? WHERE id = ? AND encrypted_kms_key = ?", c.Email, c.ID, c.Key)
//		if err != nil {
//			return err
//		}
//		n, err := result.RowsAffected()
//		if err == nil && n == 0 {
//			err = kmsencrypted.ErrConflict
//		}
//		fmt.Println("updated", n)
//		return err
//	}
//
// Packages sqlx, gorm and pgx write these statements for you. Use them if you
// can: they also deal with ids that the database makes, with transactions that are
// rolled back, and with a key column that changed meanwhile.
//
// # The life of a field
//
// A field is in one of six states:
//
//	state    how it gets there         Get returns     Value writes
//	unset    the zero value            ErrNotLoaded    ErrNotLoaded
//	set      New, Set                  the plaintext   ErrUnsealed
//	sealed   Model.Seal of a set one   the plaintext   the ciphertext
//	read     Scan of a ciphertext      ErrNotOpened    the ciphertext
//	opened   Model.Open of a read one  the plaintext   the ciphertext
//	NULL     Scan of NULL, SetNull     the zero T      NULL
//
// So a plaintext that was not sealed never reaches the database, and a column that
// was not read is never overwritten. [Of.Get] returns the value and the error,
// [Of.Must] panics on the error, and [Of.Plain] opens the field first if the
// record was prepared with [Model.OpenLazily].
//
// NULL is no ciphertext: it is visible, and needs no data key. Set of a nil
// pointer or of an sql.Null that is not valid is SetNull. The empty string is a
// value and is encrypted, except under a Ruby version, where the gems store it as it
// is. In a field without a pointer, such as Of[string], NULL
// reads as the zero value; [Of.IsNull] tells the difference. In a new record, Seal
// turns fields that are unset into NULL.
//
// A copy of a field, a [Key] or a record is independent: setting or sealing one
// leaves the other as it is. The data key in memory is shared, so [Key.Wipe] wipes
// it in all copies. A record that is inserted as a copy of another one needs a data
// key of its own: use [Model.SealNew], or Insert and Create of the adapters.
//
// An update keeps the data key of the record. Seal encrypts the fields that were
// set and leaves the others alone. The program writes the columns that changed, on
// condition that the key column is still what was read: otherwise another program
// gave the record a new data key, under which the new ciphertext does not open.
// Adapter.Write lists these columns and conditions. [Model.Rewrap] wraps the same
// data key again, under the current version, and changes the key column only.
// [Model.Rekey] seals all fields under a new data key. Package rotation does either
// for a whole table.
//
// # Tags
//
// The tag db (or [Config.ColumnTag]) names the column. The tag kms holds options,
// separated by commas:
//
//	Status field.Of[string] `db:"status_ciphertext" kms:"padding=32,key=phone"`
//
// The column "on" says which fields take the option: a plain field, a Key, an Of,
// a Part or an Index. An example begins with the options that this one needs. Where
// an option stands on another field, without what it needs, or twice, [NewModel]
// returns [kmsencrypted.ErrConfig].
//
//	option          on      meaning                                                      without it                example
//	id              plain   the field is a column of the primary key                     true of the column "id"   id
//	context         plain   encryption contexts are made of the field                    a change of it is refused context
//	name            Key     the name that key= refers to                                 the unnamed key           name=phone
//	key             Of      the name of the Key that seals the column                    the unnamed key           key=phone
//	as              Key Of  the column's name in what is bound, if it was renamed        the column's name         as=mail
//	type            Of      date, time, datetime, json, hash or array; see below         what suits the Go type    type=json
//	padding         Of      plaintext is padded to a multiple of 1 to 65536 bytes        lengths can be seen       padding=32
//	binary          Of      the column holds bytes                                       base64 text               binary
//	migrating       Of      the Go field that this one replaces, which is still read     no migration              migrating=Old
//	migrated        Of      the Go field that this one replaced, which is only written   no migration              migrated=Old
//	lockbox         Of      under a version of format Ruby: as Lockbox writes            no Ruby version           lockbox
//	attr_encrypted  Of      under a version of format Ruby: as attr_encrypted writes     no Ruby version           attr_encrypted
//	algorithm       Of      the cipher of the Ruby form                                  the gem's default         lockbox,algorithm=xchacha20
//	ad              Of      the Go field that is Lockbox's associated data               no associated data        lockbox,ad=Name
//	master          Of      under Config.LockboxMasterKey or LockboxBoxes, no data key   under the data key        lockbox,master
//	key_table       Of      the table's name in the derivation of the column's key       Config.Table              lockbox,master,key_table=users
//	key_attribute   Of      the column's name in the derivation of the column's key      the column's name         lockbox,master,key_attribute=mail
//	mode            Of      per_attribute_iv, per_attribute_iv_and_salt or               per_attribute_iv          attr_encrypted,mode=per_attribute_iv_and_salt
//	                        insecure_single_iv_and_salt
//	marshal         Of      values are in Ruby's Marshal format                          the text of to_s          attr_encrypted,marshal
//	zero_iv         Of      the values were written by encryptor 2.0.0                   a later encryptor         attr_encrypted,zero_iv
//	encode          Of      the text of the value: base64 m (lines of 60) or m0 (one)    m                         attr_encrypted,encode=m0
//	encode_iv       Of      the same of the iv, or raw for bytes                         m                         attr_encrypted,encode_iv=raw
//	encode_salt     Of      the same of the salt                                         m                         attr_encrypted,mode=per_attribute_iv_and_salt,encode_salt=m0
//	allow_empty     Of      the empty value is encrypted too (allow_empty_value)         it is stored as it is     attr_encrypted,marshal,allow_empty
//	activerecord    Of      as Rails' encrypts writes, under Config.ActiveRecord         under the data key        activerecord
//	deterministic   Of      equal values give equal columns, for Lookup                  a random nonce            activerecord,deterministic
//	downcase        Of      the value is stored in lower case                            as it is                  activerecord,downcase
//	ignore_case     Of      the lower case, to look up, of this Go field                 no such field             activerecord,ignore_case=Rails
//	name            Part    iv or salt                                                   from "_iv", "_salt"       of=encrypted_ssn,name=iv
//	of              Part    the column whose iv or salt it is                            from "_iv", "_salt"       name=iv,of=encrypted_ssn
//	of              Index   the Go field that is indexed; several are joined with "+"    required                  of=Email
//	expression      Index   what is done to the value first, blindindex.ParseExpression  the value as it is        of=Email,expression=lower
//	algorithm       Index   the hash, by its name in blindindex.ParseAlgorithm           argon2id                  of=Email,algorithm=hmac_sha256
//	slow            Index   the costly parameters of the algorithm                       the usual parameters      of=Email,slow
//	size            Index   the size of the hash in bytes, 1 to 32                       32                        of=Email,size=16
//	bits            Index   the width of the hash in bits, 1 to 256                      all of its size           of=Email,bits=24
//	binary          Index   the column holds bytes                                       base64 text               of=Email,binary
//	key_table       Index   the table's name in the derivation of the index's key        Config.Table              of=Email,key_table=users
//	key_attribute   Index   the column's name in the derivation of the index's key       the column's name         of=Email,key_attribute=mail_bidx
//
// Of type=: a time.Time is a datetime unless the tag says date or time. json keeps
// any type as JSON. hash and array are Lockbox's YAML and need [Config.YAML]. With
// lockbox also string, boolean, integer, float, decimal, inet and binary can be
// named; they describe Lockbox's form only, and that of Rails' encrypts.
//
// A column tagged activerecord has no data key and no version: see package activerecord
// for its keys, and [Config.ActiveRecordSchemes] for options that a tag cannot express. It
// is bound to nothing, neither row nor column. A rewrap or rekey leaves it alone; a rotation
// of the kind reindex, or [Model.Reindex], encrypts it under the newest key. To move it to the
// data key of the record, declare a second field with migrating=.
//
// # Errors and concurrency
//
// A Model is immutable and safe for concurrent use; a record is not. The records of a
// call with more than 32 are sealed and opened on all cores, so methods of a field's type,
// such as UnmarshalJSON, may run for several records at once. The error of
// one record is a [*kmsencrypted.Error] that names record and column; that of many
// is [Failures], and the other records are complete.
package field
