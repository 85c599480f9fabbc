package attach

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// The key of an upload is a secret of the Box (spec/files.md section 5.2): its plaintext is
//
//	0         1         89         121
//	+---------+---------+----------+
//	| version | prefix  | file key |
//	| 01      | 88      | 32       |
//	+---------+---------+----------+
const (
	uploadVersion = 1
	uploadSize    = 1 + files.PrefixSize + files.KeySize
)

// uploadContext is the context of the record, and the object.
func (m *Manager[R]) uploadContext(row *R, u *PartUpload) kmsencrypted.EncryptionContext {
	return kmsencrypted.ContextWith(m.model.Binding(m.key, row).Context,
		kmsencrypted.Pair{Name: "purpose", Value: "file upload"}, kmsencrypted.Pair{Name: "attachment", Value: u.Name},
		kmsencrypted.Pair{Name: "record_table", Value: u.Table}, kmsencrypted.Pair{Name: "record_id", Value: recordID(u.RecordID)},
		kmsencrypted.Pair{Name: "bucket", Value: u.Bucket}, kmsencrypted.Pair{Name: "object", Value: u.Object})
}

func (m *Manager[R]) sealUpload(ctx context.Context, row *R, u *PartUpload, key files.Key, prefix []byte) (string, error) {
	raw, err := key.Raw()
	if err != nil {
		return "", err
	}
	defer clear(raw)
	text := slices.Concat([]byte{uploadVersion}, prefix, raw)
	defer clear(text)
	return m.model.Box().Encrypt(ctx, text, m.uploadContext(row, u))
}

// openUpload returns the file key, which the caller must wipe, and a sealer.
func (m *Manager[R]) openUpload(ctx context.Context, row *R, u *PartUpload, sealed string) (files.Key, *files.PartSealer, error) {
	text, err := m.model.Box().Decrypt(ctx, sealed, m.uploadContext(row, u))
	if err != nil {
		return files.Key{}, nil, err
	}
	defer clear(text)
	if len(text) != uploadSize || text[0] != uploadVersion {
		return files.Key{}, nil, fmt.Errorf("attach: key of an upload: %w", kmsencrypted.ErrMalformed)
	}
	key, err := files.KeyFrom(text[1+files.PrefixSize:])
	if err != nil {
		return files.Key{}, nil, err
	}
	sealer, err := files.ResumePartSealer(key, bytes.Clone(text[1:][:files.PrefixSize]))
	if err != nil {
		key.Wipe()
		return files.Key{}, nil, err
	}
	return key, sealer, nil
}
