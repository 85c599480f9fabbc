package attach

import (
	"context"
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// A direct file key is one that the key service wraps itself, because the process that
// attached the file may not decrypt the data key of the record (spec/files.md section
// 4.1). Its text is
//
//	fb3:<record key>:<secret>  bound to the record and to its data key
//	fb2:<secret>               bound to the record: of a key column without a commitment
//	<secret>                   of older releases, bound to what the record's own context names
//
// where the secret is the text of Box.Encrypt.
const (
	keyedPrefix  = "fb3:"
	directPrefix = "fb2:"
)

// isDirect is the condition on rows with such a file key.
const isDirect = "(wrapped_key LIKE 'v%' OR wrapped_key LIKE '" + directPrefix + "%' OR wrapped_key LIKE '" + keyedPrefix + "%')"

// direct is such a text in its parts.
type direct struct {
	secret string
	bound  bool   // to the record, whatever its context names
	record string // names the data key of the record, as recordKey does
}

func parseDirect(text string) (direct, error) {
	if secret, ok := strings.CutPrefix(text, directPrefix); ok {
		return direct{secret: secret, bound: true}, nil
	}
	rest, ok := strings.CutPrefix(text, keyedPrefix)
	if !ok {
		return direct{secret: text}, nil
	}
	record, secret, ok := strings.Cut(rest, ":")
	if !ok || !isRecordKey(record) {
		return direct{}, fmt.Errorf("attach: file key: %w", kmsencrypted.ErrMalformed)
	}
	return direct{secret: secret, bound: true, record: record}, nil
}

func (d direct) String() string {
	switch {
	case d.record != "":
		return keyedPrefix + d.record + ":" + d.secret
	case d.bound:
		return directPrefix + d.secret
	}
	return d.secret
}

// pairs are what the context of the record gets.
func (d direct) pairs(a *Attachment) []kmsencrypted.Pair {
	pairs := []kmsencrypted.Pair{{Name: "attachment", Value: a.place()}, {Name: "file_id", Value: a.File.String()}}
	if !d.bound {
		return pairs
	}
	pairs = append(pairs, kmsencrypted.Pair{Name: "record_table", Value: a.Table}, kmsencrypted.Pair{Name: "record_id", Value: recordID(a.RecordID)})
	if d.record != "" {
		pairs = append(pairs, kmsencrypted.Pair{Name: "record_key", Value: d.record})
	}
	if !a.parent.IsZero() {
		pairs = append(pairs, kmsencrypted.Pair{Name: "parent_file_id", Value: a.parent.String()})
	}
	return pairs
}

// version returns the version of a direct file key.
func (a *Attachment) version() int {
	d, err := parseDirect(a.WrappedKey)
	if err != nil {
		return 0
	}
	return kmsencrypted.ColumnVersion(d.secret)
}

// directContext returns the encryption context of a direct file key: that of the record,
// and all that a key under a data key is bound to.
func (m *Manager[R]) directContext(row *R, a *Attachment, d direct) kmsencrypted.EncryptionContext {
	return kmsencrypted.ContextWith(m.model.Binding(m.key, row).Context, d.pairs(a)...)
}

func (m *Manager[R]) wrapDirect(ctx context.Context, row *R, key files.Key, a *Attachment) (string, error) {
	record, err := m.recordKey(row)
	if err != nil {
		return "", err
	}
	raw, err := key.Raw()
	if err != nil {
		return "", err
	}
	defer clear(raw)
	d := direct{bound: true, record: record}
	d.secret, err = m.model.Box().Encrypt(ctx, raw, m.directContext(row, a, d))
	if err != nil {
		return "", err
	}
	return d.String(), nil
}

func (m *Manager[R]) unwrapDirect(ctx context.Context, row *R, data kmsencrypted.DataKey, a *Attachment) (files.Key, error) {
	d, err := parseDirect(a.WrappedKey)
	if err != nil {
		return files.Key{}, err
	}
	if err := m.checkDirect(ctx, row, data, d); err != nil {
		return files.Key{}, err
	}
	raw, err := m.model.Box().Decrypt(ctx, d.secret, m.directContext(row, a, d))
	if err != nil {
		return files.Key{}, err
	}
	defer clear(raw)
	return files.KeyFrom(raw)
}

// checkDirect returns [kmsencrypted.ErrDecrypt] for a file key that is bound to another
// record, and [kmsencrypted.ErrBinding] for one that is bound to too little to tell.
func (m *Manager[R]) checkDirect(ctx context.Context, row *R, data kmsencrypted.DataKey, d direct) error {
	switch {
	case d.record != "":
		owns, err := m.owns(ctx, row, data, d.record)
		if err == nil && !owns {
			err = errEarlierRecord
		}
		return err
	case m.config.UnboundKeys:
		return nil
	case d.bound:
		record, err := m.recordKey(row)
		if err == nil && record != "" {
			err = fmt.Errorf("attach: the file key was wrapped while the record's key column had no commitment, or by an older release, and does not name its data key: see Config.UnboundKeys: %w", kmsencrypted.ErrBinding)
		}
		return err
	}
	return m.checkUnbound(row, d)
}

// checkUnbound returns [kmsencrypted.ErrBinding] for a file key of an older release
// whose context does not name the record: its row may have been copied from another
// record.
func (m *Manager[R]) checkUnbound(row *R, d direct) error {
	context, ok := m.model.Binding(m.key, row).Context.(kmsencrypted.VersionedContext)
	if !ok {
		return nil
	}
	ec, err := context(kmsencrypted.ColumnVersion(d.secret))
	if err != nil {
		return nil // the Box returns the same error
	}
	is, err := kmsencrypted.Bind(ec)
	if err != nil {
		return err
	}
	usual, err := kmsencrypted.Bind(m.defaultContext(row))
	if err != nil {
		return err
	}
	if is.String() != usual.String() {
		return fmt.Errorf("attach: the file key of an older release does not name its record: see Config.UnboundKeys: %w", kmsencrypted.ErrBinding)
	}
	return nil
}

// defaultContext returns the context that records have by default. Its names and
// values are those of package field; kms_encrypted's types do not matter here.
func (m *Manager[R]) defaultContext(row *R) kmsencrypted.EncryptionContext {
	id := m.model.ID(row)
	if len(id) == 1 {
		return kmsencrypted.ModelContext{Name: m.model.Name(), ID: id[0]}
	}
	pairs := kmsencrypted.OrderedContext{{Name: "model_name", Value: m.model.Name()}}
	for i, column := range m.model.IDColumns() {
		pairs = append(pairs, kmsencrypted.Pair{Name: column, Value: id[i]})
	}
	return pairs
}
