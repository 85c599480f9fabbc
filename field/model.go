package field

import (
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

// Config describes the table of a [Model]. Table is required.
type Config struct {
	// Table is the name of the table.
	Table string
	// As is the table's name in what ciphertexts are bound to, if the table was
	// renamed since. Empty means Table.
	As string
	// Name is the model's name in encryption contexts. For rows shared with a Rails
	// application it is the class name, such as "Billing::Account". Empty means the
	// table's name.
	Name string
	// Context returns the encryption contexts of this model. Nil means that of the
	// version, or {model_name, model_id}, or for a compound primary key model_name
	// and each of its columns.
	Context kmsencrypted.ContextFunc
	// KeysOnly means that the struct declares the primary key and key columns but
	// none of the columns sealed under them. Such a model can rewrap, and open to
	// check whether the data keys unwrap. Sealing and rekeying return
	// [kmsencrypted.ErrConfig], and so does a version with a record seal.
	KeysOnly bool
	// Complete means that the struct declares every column that is sealed under its
	// keys. Under a version with [kmsencrypted.Version.EncryptOnly], a record with
	// all fields set is then written under a new data key. Packages sqlx and gorm
	// compare the declaration with the table, see [Write.Key], because a newer
	// release may have added a column.
	Complete bool
	// NoFirstKeys means that Seal gives no stored record its first data key if the current
	// version is in Ruby's format, and returns [ErrFirstKey]. Rails gives such a
	// record a key without looking whether it has got one meanwhile, and what was sealed
	// under that is lost. New records get theirs, with SealNew; stored ones by
	// [Adapter.AddKey], or a rotation of the kind rotation.FirstKey.
	NoFirstKeys bool
	// Independent lists columns of the table that are named like encrypted ones but
	// are not sealed under a key of this model: see [Adapter.UnknownColumns].
	Independent []string
	// Files means that records may have attached files (package files/attach), whose
	// keys are wrapped under the data key of the record. A stored record then keeps
	// its data key. Operations that would replace it without moving the files are
	// refused: [Model.Rekey] with [kmsencrypted.ErrNeedsFiles], and sealing under
	// Complete without permission to decrypt with [kmsencrypted.ErrNeedsDecrypt]. A
	// model with Files may also have a key without fields, and no fields at all.
	Files bool
	// ColumnTag is the struct tag that names columns. Empty means "db".
	ColumnTag string
	// Types describes Go types that this package does not know.
	Types []Type
	// ActiveRecord has the keys of the columns tagged `kms:"activerecord"`.
	ActiveRecord *activerecord.Encryption
	// ActiveRecordSchemes contains, by column, the options of such columns that need more
	// than a tag can express: keys of their own, an envelope, previous schemes. Those of
	// the tag are added.
	ActiveRecordSchemes map[string]activerecord.Scheme
	// KeyVersions contains, by the name of a key, the version that this key is written at
	// if it is not the current one of the Box: Ruby's has_kms_key name: :phone, version: 2
	// is {"phone": 2}. The name of the first key is "".
	KeyVersions map[string]int
	// LockboxMasterKey opens the columns tagged `kms:"lockbox,master"`.
	LockboxMasterKey lockbox.MasterKey
	// LockboxBoxes contains, by column, the boxes of such columns that have a key of their
	// own: key:, previous_versions: and algorithm: "hybrid" in Ruby.
	LockboxBoxes map[string]*lockbox.Box
	// IndexKey is the master key of blind indexes: each Index has a key of its own
	// derived from it, for the table and its column.
	IndexKey blindindex.MasterKey
	// Indexes contains the indexes, by column, that need more than a tag can
	// express: another master key, an expression of your own, partitions.
	Indexes map[string]*blindindex.Index
	// YAML implements Lockbox's types hash and array: see lockbox/rubyyaml.
	YAML lockbox.YAML
}

func (c Config) columnTag() string { return or(c.ColumnTag, "db") }

// Model seals and opens records of type R, a struct with one [Key] or several
// and fields of type [Of]. It is immutable and safe for concurrent use; a record
// is not.
//
// A nil or zero Model is a mistake, and so is a nil record. Methods that return an
// error, and the result of [Model.Lookup], report both as [kmsencrypted.ErrConfig].
// The other methods return the zero value, or do nothing.
type Model[R any] struct {
	core *core
	memo sync.Map // of adapters
}

// NewModel returns a model for the tags of R. It returns all errors in them at
// once, as [kmsencrypted.ErrConfig].
func NewModel[R any](box *kmsencrypted.Box, config Config) (*Model[R], error) {
	return newModel[R](box, reflect.TypeFor[R](), config)
}

func newModel[R any](box *kmsencrypted.Box, row reflect.Type, config Config) (*Model[R], error) {
	c, err := newCore(box, row, config)
	if err != nil {
		return nil, err
	}
	return &Model[R]{core: c}, nil
}

// suits checks the schema against the versions that its columns may have.
func (s *schema) suits(box *kmsencrypted.Box) error {
	if _, err := box.Version(0); errors.Is(err, kmsencrypted.ErrConfig) {
		return err // a nil or zero Box
	}
	mistakes := s.suitsKeyVersions(box)
	for _, n := range box.Versions() {
		v, err := box.Version(n)
		if err != nil {
			return err
		}
		if v.Format == kmsencrypted.Ruby {
			mistakes = append(mistakes, s.suitsRuby(n)...)
		}
		if s.config.KeysOnly && v.RecordSeal {
			mistakes = append(mistakes, fmt.Errorf("%w: version %d seals records, and a model of keys only cannot: declare the columns", kmsencrypted.ErrConfig, n))
		}
		if len(s.ids) == 0 && v.Format == kmsencrypted.Native && !v.OmitID {
			mistakes = append(mistakes, fmt.Errorf("%w: version %d binds the primary key: tag it `kms:\"id\"`, or set Version.OmitID", kmsencrypted.ErrConfig, n))
		}
		if len(s.ids) == 0 && v.Context == nil && s.config.Context == nil {
			mistakes = append(mistakes, fmt.Errorf("%w: the default context of version %d names the primary key: tag it `kms:\"id\"`, or set a Context", kmsencrypted.ErrConfig, n))
		}
	}
	return errors.Join(mistakes...)
}

// suitsKeyVersions requires that the versions of [Config.KeyVersions] can be read.
func (s *schema) suitsKeyVersions(box *kmsencrypted.Box) (mistakes []error) {
	for name, n := range s.config.KeyVersions {
		if _, err := box.Version(n); err != nil || n == 0 {
			mistakes = append(mistakes, fmt.Errorf("%w: Config.KeyVersions: version %d of key %q is not listed", kmsencrypted.ErrConfig, n, name))
		}
	}
	return mistakes
}

// suitsRuby requires the Ruby form of every column that may be in it.
func (s *schema) suitsRuby(version int) (mistakes []error) {
	for _, k := range s.keys {
		for _, f := range k.fields {
			if f.rubyColumn == nil {
				mistakes = append(mistakes, fmt.Errorf("%w: %s: version %d is in Ruby's format: tag the column lockbox or attr_encrypted", kmsencrypted.ErrConfig, f.goName, version))
			}
		}
	}
	return mistakes
}

// Table returns the name of the model's table.
func (m *Model[R]) Table() string { return m.inner().table() }
