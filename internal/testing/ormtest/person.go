package ormtest

import (
	"errors"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// Person is the record of the suite, with the tags of the libraries that read tags. It
// has two keys, and a column that needs neither, and the encryption context of both is made of its tenant and id.
type Person struct {
	ID         int64             `db:"id" bun:"id,pk,autoincrement"`
	Tenant     string            `db:"tenant_id" kms:"context" gorm:"column:tenant_id" bun:"tenant_id"`
	Name       string            `db:"name" bun:"name"`
	Note       string            `db:"note" bun:"note"`
	Key        field.Key         `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text" bun:"encrypted_kms_key"`
	Email      field.Of[string]  `db:"email_ciphertext" gorm:"column:email_ciphertext;type:text" bun:"email_ciphertext"`
	EmailIndex field.Index       `db:"email_bidx" kms:"of=Email,expression=lower,algorithm=hmac_sha256" gorm:"column:email_bidx;type:text" bun:"email_bidx"`
	PhoneKey   field.Key         `db:"encrypted_kms_key_phone" kms:"name=phone" gorm:"column:encrypted_kms_key_phone;type:text" bun:"encrypted_kms_key_phone"`
	Phone      field.Of[*string] `db:"phone_ciphertext" kms:"key=phone" gorm:"column:phone_ciphertext;type:text" bun:"phone_ciphertext"`
	// Nickname is a column of Rails' encrypts.
	Nickname field.Of[*string] `db:"nickname" kms:"activerecord,deterministic" gorm:"column:nickname;type:text" bun:"nickname"`
}

// NewPerson returns a record with values, for [DB.New].
func NewPerson(id int64, v Values) *Person {
	p := &Person{ID: id, Tenant: v.Tenant, Name: v.Name, Note: v.Note}
	held{p}.SetEmail(v.Email)
	held{p}.SetPhone(v.Phone)
	held{p}.SetNickname(v.Nickname)
	return p
}

// RecordOf returns a Person as a Record.
func RecordOf(p *Person) Record { return held{p} }

// PersonOf returns the Person of a Record that [RecordOf] made.
func PersonOf(r Record) *Person { return r.(held).p }

// Records returns people as records.
func Records(people []*Person) []Record {
	all := make([]Record, len(people))
	for i, p := range people {
		all[i] = RecordOf(p)
	}
	return all
}

// People is the reverse of [Records].
func People(rows []Record) []*Person {
	all := make([]*Person, len(rows))
	for i, r := range rows {
		all[i] = PersonOf(r)
	}
	return all
}

type held struct{ p *Person }

func (h held) ID() int64          { return h.p.ID }
func (h held) SetTenant(s string) { h.p.Tenant = s }
func (h held) SetName(s string)   { h.p.Name = s }
func (h held) SetNote(s string)   { h.p.Note = s }
func (h held) Entity() any        { return h.p }

func (h held) SetEmail(s *string) {
	if s == nil {
		h.p.Email.SetNull()
		return
	}
	h.p.Email.Set(*s)
}

func (h held) SetPhone(s *string)    { h.p.Phone.Set(s) }
func (h held) SetNickname(s *string) { h.p.Nickname.Set(s) }

func (h held) Values() (Values, error) {
	v := Values{Tenant: h.p.Tenant, Name: h.p.Name, Note: h.p.Note}
	phone, err := h.p.Phone.Get()
	nickname, failure := h.p.Nickname.Get()
	v.Phone, v.Nickname, err = phone, nickname, errors.Join(err, failure)
	if !h.p.Email.IsNull() {
		email, failure := h.p.Email.Get()
		v.Email, err = &email, errors.Join(err, failure)
	}
	return v, err
}
