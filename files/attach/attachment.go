package attach

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// Attachment is a file that is attached to a record: a row of the table
// kms_attachments. File name and content type are neither secret nor authentic.
type Attachment struct {
	ID       string
	Table    string   // of the record, as it is bound
	RecordID []string // its primary key
	Name     string   // the attachment's, such as "license"

	// Of a derived file (a preview, a smaller picture): what it is, and the ID of
	// the attachment that it was made from. Else empty.
	Variant, Parent string

	Bucket, Object string       // where the object lies
	Format         files.Format // of the object
	File           files.ID     // another one with every change of the object: an ETag
	WrappedKey     string

	Size, ObjectSize      int64 // of the file and of the object, in bytes
	FileName, ContentType string
	Created               time.Time
}

// place is the name that the file key is bound to.
func (a *Attachment) place() string {
	if a.Variant == "" {
		return a.Name
	}
	return a.Name + "/" + a.Variant // a name has no slash
}

func (a *Attachment) filePlace() files.Place {
	return files.Place{Format: a.Format, Table: a.Table, ID: a.RecordID, Attachment: a.place(), File: a.File}
}

// recordID is a primary key as a column: the text itself, or a JSON list of several.
func recordID(id []string) string {
	if len(id) == 1 {
		return id[0]
	}
	text, _ := json.Marshal(id) // strings cannot fail
	return string(text)
}

// parseRecordID is the inverse for a primary key of n columns.
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
