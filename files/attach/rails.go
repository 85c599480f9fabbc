package attach

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"time"

	"github.com/kmsencrypted/kmsencrypted/field"
	filebox "github.com/kmsencrypted/kmsencrypted/files/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

// RailsConfig describes the attachments of a Rails model: Active Storage with
// Lockbox's encrypts_attached.
type RailsConfig[R any] struct {
	// Attachments are the attachments of the model, by name.
	Attachments map[string]RailsAttachment[R]
	// MasterKey is the master key of Lockbox.
	MasterKey lockbox.MasterKey
	// RecordType is the class in the rows of active_storage_attachments. Empty means
	// the model's name. For subclasses it is the base class.
	RecordType string
	// Buckets are the services by name, as in config/storage.yml. Bucket is the one
	// for new files; it may be empty if there is only one.
	Buckets map[string]Bucket
	Bucket  string
	// Resolve and Fallback are as in [Config].
	Resolve  func(ctx context.Context, attachment string) (bucket string, err error)
	Fallback func(ctx context.Context, attachment, bucket string)
	// KeyColumn is the key column of the attachments with RecordKey: the model's first, or
	// that of key: :kms_key_phone, say. Elsewhere are the attachments under other ones, which
	// another Rails has. A rekey needs both.
	KeyColumn string
	Elsewhere []string
	// MaxSize, Lease and Grace are as in [Config].
	MaxSize      int64
	Lease, Grace time.Duration
}

// RailsAttachment describes a has_one_attached or has_many_attached and its
// encrypts_attached.
type RailsAttachment[R any] struct {
	Many bool
	// Bucket is the bucket for new files of this attachment (service:). Empty means
	// that of [RailsConfig].
	Bucket string
	// Plain means that there is no encrypts_attached.
	Plain bool
	// RecordKey means that the key is the record's data key (key: :kms_key) in
	// [RailsConfig].KeyColumn. Otherwise the key is derived from the master key.
	RecordKey bool
	// KeyTable and KeyAttribute are key_table: and key_attribute:. Empty means the
	// model's table and the attachment's name.
	KeyTable, KeyAttribute string
	// Lockbox holds the algorithm, the padding and the older options.
	Lockbox filebox.Options
	// Codec is for an attachment with a key of its own (key:), or of the algorithm hybrid
	// (encryption_key:, decryption_key:). RecordKey, the names of the key and Lockbox are
	// zero then. Files under such a key are no part of a rekey.
	Codec *filebox.Codec
	// Migrating opens a file whose blob is not marked as encrypted as it is (migrating:
	// true); new files are encrypted. Who can write to the table can remove the mark, so
	// turn it off when Reencrypt has moved every old file.
	Migrating bool
	// AssociatedData is associated_data:. Nil means none.
	AssociatedData func(*R) []byte
}

// Rails reads and writes attachments as a Rails application with Active Storage and
// Lockbox stores them, byte for byte in both directions. Writing takes constant
// memory under aes-gcm. Opening reads the whole object once before the first byte,
// so no unauthenticated byte is returned. It is safe for concurrent use.
//
// A rekey of the records adopts the files under their data keys (RecordKey). The
// old data key becomes the file's own key: it is wrapped under the new data key,
// stored in the metadata of the blob and bound to the object by its MD5 checksum.
// No object changes. Rails cannot read an adopted file until [Rails.Reencrypt] has
// moved it to the record's data key.
type Rails[R any] struct {
	intents
	model   field.Adapter[R]
	config  RailsConfig[R]
	records *Manager[R] // reads the records
}

// NewRails returns a manager of the attachments of a Rails model. The model must
// have a primary key of one column, and set [field.Config.Files] if any attachment
// is under the record's data key. The table kms_attachment_objects of [Tables] must
// exist before the first upload. NewRails returns [kmsencrypted.ErrConfig] for an
// invalid configuration.
func NewRails[R any](ctx context.Context, db *sql.DB, d field.Dialect, model *field.Model[R], config RailsConfig[R]) (*Rails[R], error) {
	if err := d.Check(); err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	if db == nil {
		return nil, configError("the database is nil")
	}
	if err := model.Adapter().Check(); err != nil {
		return nil, err
	}
	common := Config{
		Buckets: config.Buckets, Bucket: config.Bucket, Resolve: config.Resolve, Fallback: config.Fallback,
		KeyColumn: config.KeyColumn, Elsewhere: config.Elsewhere, MaxSize: config.MaxSize, Lease: config.Lease, Grace: config.Grace,
	}
	needsKey := false
	for name, a := range config.Attachments {
		if a.Many {
			common.Many = append(common.Many, name)
		} else {
			common.One = append(common.One, name)
		}
		if a.Bucket != "" {
			if common.BucketOf == nil {
				common.BucketOf = make(map[string]string)
			}
			common.BucketOf[name] = a.Bucket
		}
		needsKey = needsKey || a.RecordKey
	}
	common, err := common.check()
	if err != nil {
		return nil, err
	}
	adapter := model.Adapter()
	keys := adapter.KeyColumns()
	if common.KeyColumn == "" && len(keys) > 0 {
		common.KeyColumn = keys[0]
	}
	switch {
	case reflect.TypeFor[R]().Kind() != reflect.Struct, len(adapter.IDColumns()) != 1:
		return nil, configError("the rows of %s are not structs with one primary key", model.Table())
	case needsKey && (!adapter.HasFiles() || adapter.Key(common.KeyColumn, new(R)) == nil):
		return nil, configError("attachments of %s are under the record's data key: the model needs a key column and field.Config.Files", model.Table())
	}
	if config.RecordType == "" {
		config.RecordType = adapter.Name()
	}
	i := intents{dialect: d, db: db, buckets: common.Buckets, lease: common.Lease, grace: common.Grace,
		references: "SELECT " + d.Quoted("key") + " FROM active_storage_blobs WHERE service_name = ? AND " + d.Quoted("key") + " IN "}
	config.Bucket, config.Elsewhere = common.Bucket, common.Elsewhere
	r := &Rails[R]{intents: i, model: adapter, config: config, records: &Manager[R]{intents: i, model: adapter, config: common, key: common.KeyColumn}}
	for name, a := range config.Attachments {
		if err := r.checkAttachment(name, a); err != nil {
			return nil, err
		}
	}
	if r.records.columns, err = r.records.learn(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// checkAttachment makes a codec to check the options.
func (r *Rails[R]) checkAttachment(name string, a RailsAttachment[R]) error {
	if a.Plain {
		return nil
	}
	if a.Codec != nil {
		if a.RecordKey || a.KeyTable != "" || a.KeyAttribute != "" || !reflect.ValueOf(a.Lockbox).IsZero() {
			return configError("attachment %s has a Codec, and no other options of a key or of Lockbox", name)
		}
		return nil
	}
	key := make([]byte, lockbox.KeySize)
	if !a.RecordKey {
		var err error
		if key, err = r.masterKey(name, a); err != nil {
			return err
		}
		defer clear(key)
	}
	_, err := filebox.New(key, a.Lockbox)
	return err
}

func (r *Rails[R]) masterKey(name string, a RailsAttachment[R]) ([]byte, error) {
	table, attribute := r.model.Table(), name
	if a.KeyTable != "" {
		table = a.KeyTable
	}
	if a.KeyAttribute != "" {
		attribute = a.KeyAttribute
	}
	return r.config.MasterKey.AttributeKey(table, attribute)
}

// Sweep is like [Manager.Sweep].
func (r *Rails[R]) Sweep(ctx context.Context) (Swept, error) {
	if err := r.usable(); err != nil {
		return Swept{}, err
	}
	return r.sweep(ctx)
}

// Divides implements [field.Divided].
func (r *Rails[R]) Divides() (names, elsewhere []string) {
	if r == nil {
		return nil, nil
	}
	return r.records.Divides()
}

// KeyColumn is like [Manager.KeyColumn].
func (r *Rails[R]) KeyColumn() string {
	if r == nil || r.records == nil {
		return ""
	}
	return r.records.key
}
