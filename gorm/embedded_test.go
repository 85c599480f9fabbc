package kmsgorm_test

import (
	"testing"

	"gorm.io/gorm"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

type Contact struct {
	Email field.Of[string] `db:"email" gorm:"type:text"`
	City  string           `db:"city"`
}

// Owner has its columns behind pointers, and those of one struct twice.
type Owner struct {
	*gorm.Model
	*Secret
	Home *Contact `gorm:"embedded;embeddedPrefix:home_"`
	Work Contact  `gorm:"embedded;embeddedPrefix:work_"`
}

func TestEmbeddedPrefixesSQLite(t *testing.T) {
	t.Parallel()
	db := openWith[Owner](t, "owners")
	d := &database{T: t, db: db}
	read := func(id uint) (o Owner) { d.must(db.First(&o, id).Error); return o }

	o := Owner{Work: Contact{Email: field.New(ada), City: "London"}}
	d.must(db.Create(&o).Error)
	if got := read(o.ID); got.Work.Email.Must() != ada || got.Work.City != "London" || !got.Home.Email.IsNull() || !got.Email.IsNull() || got.CreatedAt.IsZero() {
		t.Errorf("Create: %q in %q", got.Work.Email.Must(), got.Work.City)
	}
	got := read(o.ID)
	got.Home.Email.Set(grace)
	got.Email.Set(grace)
	d.must(db.Save(&got).Error)

	// What Updates takes for new values changes no other struct of the record.
	held := read(o.ID)
	held.Home.Email.Set("unsaved")
	if r := db.Model(&held).Where("work_city = ?", "nowhere").Updates(map[string]any{"home_email": ada}); r.Error != nil || r.RowsAffected != 0 {
		t.Errorf("Updates where nothing is: %d rows, %v", r.RowsAffected, r.Error)
	}
	if text := held.Home.Email.Must(); text != "unsaved" {
		t.Errorf("Updates that wrote nothing left %q in the record", text)
	}
	held = read(o.ID)
	if r := db.Model(&held).Updates(map[string]any{"home_email": ada, "work_city": "Paris"}); r.Error != nil || r.RowsAffected != 1 {
		t.Errorf("Updates: %d rows, %v", r.RowsAffected, r.Error)
	}
	if r := db.Model(Owner{}).Where("id = ?", o.ID).Update("work_email", grace); r.Error != nil || r.RowsAffected != 1 {
		t.Errorf("Update by id: %d rows, %v", r.RowsAffected, r.Error)
	}
	last := read(o.ID)
	if last.Home.Email.Must() != ada || last.Work.Email.Must() != grace || last.Email.Must() != grace || last.Work.City != "Paris" {
		t.Errorf("read %q %q %q", last.Home.Email.Must(), last.Work.Email.Must(), last.Email.Must())
	}
	d.wantError("Where", db.Where("home_email = ?", ada).First(&Owner{}).Error, kmsencrypted.ErrUnsealed)
	d.must(db.Delete(&last).Error)
	var gone Owner
	d.must(db.Unscoped().First(&gone, o.ID).Error)
	if gone.Home.Email.Must() != ada || !gone.DeletedAt.Valid {
		t.Errorf("deleted softly: %q", gone.Home.Email.Must())
	}
}
