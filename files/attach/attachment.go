package attach

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// Attachment is a file attached to a record: a row of the table kms_attachments. Its
// file name and content type are neither encrypted nor authenticated.
type Attachment struct {
	ID       string
	Table    string   // of the record, as bound in the encryption context
	RecordID []string // its primary key
	Name     string   // of the attachment, such as "license"

	// For a derived file (a preview, a smaller picture): the name of the variant, and the
	// ID of the attachment that it was made from. Otherwise empty.
	Variant, Parent string

	Bucket, Object string       // where the object is stored
	Format         files.Format // of the object
	File           files.ID     // changes whenever the object changes: usable as an ETag
	WrappedKey     string

	Size, ObjectSize      int64 // of the file and of the object, in bytes
	FileName, ContentType string
	Created               time.Time

	// Of the row Parent, set by readParents.
	parent        files.ID
	parentCreated int64

	recovery string // the recovery wrap in the row, if Config.Recovery is set

	malformed error // names the row and the column, if it or the row Parent holds nonsense
}

// malformedColumn is the error of a column that does not hold what belongs there.
func (a *Attachment) malformedColumn(column string) error {
	return fmt.Errorf("attach: %w: %s in row %s of kms_attachments", kmsencrypted.ErrMalformed, column, a.ID)
}

// place is the name that the file key is bound to.
func (a *Attachment) place() string {
	if a.Variant == "" {
		return a.Name
	}
	return a.Name + "/" + a.Variant // a name has no slash
}

func (a *Attachment) filePlace() files.Place {
	return files.Place{Format: a.Format, Table: a.Table, ID: a.RecordID, Attachment: a.place(), File: a.File, Parent: a.parent}
}

// recordID returns a primary key as the text of a column: the value itself, or a JSON
// list of several.
func recordID(id []string) string {
	if len(id) == 1 {
		return id[0]
	}
	text, _ := json.Marshal(id) // marshalling strings cannot fail
	return string(text)
}

// parseRecordID is the inverse of recordID for a primary key of n columns.
func parseRecordID(text string, n int) ([]string, error) {
	if n == 1 {
		return []string{text}, nil
	}
	var id []string
	if err := json.Unmarshal([]byte(text), &id); err != nil || len(id) != n {
		return nil, fmt.Errorf("attach: %w: record_id of kms_attachments", kmsencrypted.ErrMalformed)
	}
	return id, nil
}
