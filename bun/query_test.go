package kmsbun_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/uptrace/bun"

	"github.com/kmsencrypted/kmsencrypted"
	kmsbun "github.com/kmsencrypted/kmsencrypted/bun"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// author and book are related, both with encrypted columns; a shelf has none.
type author struct {
	bun.BaseModel `bun:"table:authors"`
	ID            int64            `bun:",pk,autoincrement" db:"id"`
	ShelfID       int64            `db:"shelf_id"`
	Key           field.Key        `bun:"encrypted_kms_key" db:"encrypted_kms_key"`
	Email         field.Of[string] `bun:"email_ciphertext" db:"email_ciphertext"`
	Books         []*book          `bun:"rel:has-many,join:id=author_id" db:"-"`
}

type book struct {
	bun.BaseModel `bun:"table:books"`
	ID            int64            `bun:",pk,autoincrement" db:"id"`
	AuthorID      int64            `db:"author_id"`
	Author        *author          `bun:"rel:belongs-to,join:author_id=id" db:"-"`
	Key           field.Key        `bun:"encrypted_kms_key" db:"encrypted_kms_key"`
	Note          field.Of[string] `bun:"note_ciphertext" db:"note_ciphertext"`
}

type shelf struct {
	bun.BaseModel `bun:"table:shelves"`
	ID            int64     `bun:",pk"`
	Authors       []*author `bun:"rel:has-many,join:id=shelf_id"`
	FirstID       int64
	First         *author `bun:"rel:belongs-to,join:first_id=id"`
}

func TestRelations(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		k := kmstest.NewService(kmstest.Memory())
		config := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: k.Provider()}}}
		for table, columns := range map[string]string{"authors": "shelf_id bigint, encrypted_kms_key text, email_ciphertext text", "books": "author_id bigint, encrypted_kms_key text, note_ciphertext text", "shelves": "first_id bigint"} {
			_, err := s.raw.Exec("CREATE TABLE " + table + " (id " + s.autoID + ", " + columns + ")")
			must(t, err)
		}
		db := bun.NewDB(s.raw, dialectFor(s.dialect))
		wantError(t, "UseRelations before Use", kmsbun.UseRelations(db, (*shelf)(nil)), kmsencrypted.ErrConfig)
		must(t, kmsbun.Use(db, modelOf[author](t, "authors", config), modelOf[book](t, "books", config)))
		authors := []author{{ShelfID: 1, Email: field.New(mail(0))}, {ShelfID: 1, Email: field.New(mail(1))}}
		_, err := db.NewInsert().Model(&authors).Exec(t.Context())
		must(t, err)
		var books []book
		for i := range 4 {
			books = append(books, book{AuthorID: authors[i/2].ID, Note: field.New(mail(10 + i))})
		}
		_, err = db.NewInsert().Model(&books).Exec(t.Context())
		must(t, err)
		_, err = s.raw.Exec(fmt.Sprintf("INSERT INTO shelves (id, first_id) %s VALUES (1, %d)", map[bool]string{true: "OVERRIDING SYSTEM VALUE"}[s.dialect == field.Postgres], authors[1].ID))
		must(t, err)

		var list []author
		unwraps := k.Count(kmsencrypted.OpUnwrap)
		must(t, db.NewSelect().Model(&list).Relation("Books").Order("author.id").Scan(t.Context()))
		if n := k.Count(kmsencrypted.OpUnwrap) - unwraps; n != 6 {
			t.Errorf("%d calls for 2 authors with 4 books", n)
		}
		if len(list) != 2 || len(list[1].Books) != 2 || list[1].Email.Must() != mail(1) || list[1].Books[0].Note.Must() != mail(12) {
			t.Errorf("has-many: %d authors", len(list))
		}
		var b book
		must(t, db.NewSelect().Model(&b).Relation("Author").Where("book.id = ?", books[3].ID).Scan(t.Context()))
		if b.Author.Email.Must() != mail(1) || b.Note.Must() != mail(13) {
			t.Error("belongs-to")
		}
		// A child that was read with its parent is written as any record.
		b.Author.Email.Set(mail(2))
		_, err = db.NewUpdate().Model(b.Author).WherePK().Exec(t.Context())
		must(t, err)

		var sh shelf
		wantError(t, "a relation of another struct", db.NewSelect().Model(&sh).Relation("First").Scan(t.Context()), kmsencrypted.ErrNotOpened)
		must(t, kmsbun.UseRelations(db, (*shelf)(nil)))
		must(t, db.NewSelect().Model(&sh).Relation("First").Relation("Authors.Books").Scan(t.Context()))
		if sh.First.Email.Must() != mail(2) || len(sh.Authors) != 2 || sh.Authors[0].Books[1].Note.Must() != mail(11) {
			t.Error("a parent without encrypted columns")
		}
		must(t, db.NewSelect().Model(&b).Relation("Author").Where("book.author_id = -1 OR book.id = ?", books[0].ID).Scan(t.Context()))
		wantError(t, "a condition on a relation", db.NewSelect().Model(&b).Relation("Author").Where("author.email_ciphertext = ?", mail(2)).Scan(t.Context()), kmsencrypted.ErrUnsealed)
	})
}

// A struct that is used again holds nothing of an earlier row.
func TestSelectReplaces(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		m := members(t, s)
		a, b := &member{Name: "Ada", Email: field.New(mail(0))}, &member{Name: "Grace", Email: field.New(mail(1))}
		m.insert(t, a, b)
		got := m.byID(t, a.ID)
		must(t, m.db.NewSelect().Model(got).Column("id", "name").Where("id = ?", b.ID).Scan(t.Context()))
		if _, err := got.Email.Get(); err == nil || got.Name != "Grace" {
			t.Error("a column that was not selected has the value of another row")
		}
		list := []member{*a, *a}
		must(t, m.db.NewSelect().Model(&list).Column("id", "name").Order("id").Scan(t.Context()))
		if _, err := list[1].Email.Get(); err == nil || len(list) != 2 {
			t.Error("a list has the value of another row")
		}
		again := &member{ID: b.ID, Email: field.New(mail(7))}
		must(t, m.db.NewSelect().Model(again).WherePK().Scan(t.Context()))
		if again.Email.Must() != mail(1) {
			t.Error("a record that was read again")
		}
		wantError(t, "without the key", m.db.NewSelect().Model(new(member)).Column("id", "email_ciphertext").Scan(t.Context()), kmsencrypted.ErrNotLoaded)
		wantError(t, "without the id", m.db.NewSelect().Model(new(member)).Column("encrypted_kms_key", "email_ciphertext").Scan(t.Context()), kmsencrypted.ErrNoID)
		if err := m.db.NewSelect().Model(new(member)).Where("id = -1").Scan(t.Context()); err != sql.ErrNoRows {
			t.Errorf("no row: %v", err)
		}
		n, err := m.db.NewSelect().Model(&list).Limit(1).ScanAndCount(t.Context())
		if err != nil || n != 2 || list[0].Email.IsNull() {
			t.Errorf("ScanAndCount = %d, %v", n, err)
		}
		exists, err := m.db.NewSelect().Model((*member)(nil)).Where("name = ?", "Ada").Exists(t.Context())
		if err != nil || !exists {
			t.Errorf("Exists = %v, %v", exists, err)
		}
		var names []string
		must(t, m.db.NewSelect().Model((*member)(nil)).Column("name").Order("id").Scan(t.Context(), &names))
		if strings.Join(names, " ") != "Ada Grace" {
			t.Errorf("names = %q", names)
		}
	})
}

func TestMatches(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		m := members(t, s)
		a, b, none := &member{Name: "Ada", Email: field.New(mail(0))}, &member{Name: "Grace", Email: field.New(mail(1))}, &member{Name: "nobody"}
		none.Email.SetNull()
		m.insert(t, a, b, none)
		find := func(dest any, l field.Lookup) error {
			return m.db.NewSelect().Model(dest).ApplyQueryBuilder(kmsbun.Matches(l)).Order("id").Scan(t.Context())
		}
		var one member
		must(t, find(&one, m.m.Lookup("Email", strings.ToUpper(mail(1)))))
		if one.ID != b.ID {
			t.Error("Matches of one")
		}
		var list []*member
		must(t, find(&list, m.m.Lookup("Email", mail(0), mail(1), mail(5))))
		if len(list) != 2 {
			t.Errorf("Matches of three: %d", len(list))
		}
		must(t, find(&list, m.m.Lookup("Email", nil)))
		if len(list) != 1 || list[0].ID != none.ID {
			t.Errorf("Matches of NULL: %d", len(list))
		}
		wantError(t, "an unknown field", find(&list, m.m.Lookup("Nonsense", "x")), kmsencrypted.ErrConfig)
		_, err := m.db.NewDelete().Model((*member)(nil)).ApplyQueryBuilder(kmsbun.Matches(m.m.Lookup("Nonsense", "x"))).Exec(t.Context())
		wantError(t, "a DELETE by an unknown field", err, kmsencrypted.ErrConfig)
		r, err := m.db.NewUpdate().Model((*member)(nil)).Set("state = 'x'").ApplyQueryBuilder(kmsbun.Matches(m.m.Lookup("Email", mail(1)))).Exec(t.Context())
		if n := affected(t, r, err); n != 1 || m.byID(t, b.ID).State != "x" {
			t.Errorf("an UPDATE by an index: %d rows", n)
		}
		// Somebody gave the first row the index of another.
		_, err = s.raw.Exec(fmt.Sprintf("UPDATE members SET email_bidx = (SELECT x FROM (SELECT email_bidx AS x FROM members WHERE id = %d) AS y) WHERE id = %d", b.ID, a.ID))
		must(t, err)
		wantError(t, "a false hit first", find(&one, m.m.Lookup("Email", mail(1))), kmsencrypted.ErrNotOpened)
		must(t, find(&list, m.m.Lookup("Email", mail(1))))
		if len(list) != 1 || list[0].ID != b.ID {
			t.Errorf("beside a false hit: %d", len(list))
		}
	})
}

// Queries that only look alike are none of our business.
func TestQueriesOfOthers(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		m := members(t, s)
		a := &member{Name: "Ada", Email: field.New(mail(0))}
		m.insert(t, a)
		_, err := m.db.ExecContext(t.Context(), "CREATE TABLE letters (id int, email_ciphertext text)")
		must(t, err)
		_, err = m.db.ExecContext(t.Context(), "INSERT INTO letters VALUES (?, ?)", 1, "x")
		must(t, err)
		_, err = m.db.NewUpdate().Table("letters").Set("id = ?", 1).Where("id NOT IN (?)", m.db.NewSelect().Model((*member)(nil)).Column("id")).Exec(t.Context())
		must(t, err)
		for what, q := range map[string]*bun.SelectQuery{
			"another table":       m.db.NewSelect().Table("letters").Where("email_ciphertext = ?", "x"),
			"joined":              m.db.NewSelect().Model((*member)(nil)).Join("JOIN letters AS l ON l.email_ciphertext = ?", "x"),
			"a literal":           m.db.NewSelect().Model((*member)(nil)).Where("'email_ciphertext' <> ?", "x"),
			"beside IS NOT NULL":  m.db.NewSelect().Model((*member)(nil)).Where("email_ciphertext IS NOT NULL AND name = ?", "Ada"),
			"the ciphertext":      m.db.NewSelect().Model((*member)(nil)).Where("email_ciphertext = ?", a.Email),
			"the index":           m.db.NewSelect().Model((*member)(nil)).Where("email_bidx IN (?)", bun.In([]field.Index{a.EmailIndex})),
			"selected and sorted": m.db.NewSelect().Model((*member)(nil)).Where("id IN (?)", m.db.NewSelect().Model((*member)(nil)).Column("id").Where("name = ?", "Ada").Order("email_ciphertext").Limit(1).Offset(0)),
		} {
			if s.dialect == field.MySQL && what == "selected and sorted" {
				continue // MySQL has no LIMIT in a subquery
			}
			if n, err := q.Count(t.Context()); err != nil || n != 1 {
				t.Errorf("%s: %d rows, %v", what, n, err)
			}
		}
	})
}

func TestUseRefuses(t *testing.T) {
	t.Parallel()
	raw := openSQLite(t)
	fresh := func() *bun.DB { return bun.NewDB(raw, dialectFor(field.SQLite)) }
	type twin struct {
		ID    int64            `bun:",pk" db:"id"`
		Key   field.Key        `bun:"encrypted_kms_key" db:"encrypted_kms_key"`
		Email field.Of[string] `bun:"email_ciphertext,nullzero" db:"email_ciphertext"`
	}
	m := modelOf[note](t, "notes", oneKey())
	for what, err := range map[string]error{
		"a nil database":    kmsbun.Use(nil, m),
		"a zero database":   kmsbun.Use(new(bun.DB), m),
		"no models":         kmsbun.Use(fresh()),
		"a nil model":       kmsbun.Use(fresh(), nil),
		"a typed nil model": kmsbun.Use(fresh(), (*field.Model[note])(nil)),
		"a zero model":      kmsbun.Use(fresh(), new(field.Model[note])),
		"a model twice":     kmsbun.Use(fresh(), m, m),
		"another table":     kmsbun.Use(fresh(), modelOf[note](t, "letters", oneKey())),
		"nullzero":          kmsbun.Use(fresh(), modelOf[twin](t, "twins", oneKey())),
		"no parent":         kmsbun.UseRelations(fresh(), nil),
		"a parent by value": kmsbun.UseRelations(fresh(), shelf{}),
		"no relations":      kmsbun.UseRelations(fresh(), (*note)(nil)),
		"relations of nil":  kmsbun.UseRelations(nil, (*note)(nil)),
	} {
		wantError(t, what, err, kmsencrypted.ErrConfig)
	}
	err := kmsbun.Use(fresh(), modelOf[otherModel](t, "others", oneKey()))
	wantError(t, "other tags", err, kmsencrypted.ErrConfig)
	for _, part := range []string{"somewhere", "encrypted_kms_key", "email_ciphertext", "primary key"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
	db := fresh()
	must(t, kmsbun.Use(db, m))
	wantError(t, "Use twice", kmsbun.Use(db, m), kmsencrypted.ErrConfig)
}

type otherModel struct {
	bun.BaseModel `bun:"table:somewhere"`
	Number        int64            `bun:",pk" db:"-"`
	ID            int64            `db:"id" kms:"id"`
	Key           field.Key        `db:"encrypted_kms_key"`
	Email         field.Of[string] `db:"email_ciphertext"`
}
