package activerecord

import (
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// Config is the configuration of a Rails application, config.active_record.encryption.
// A setting is required only for the attributes that need it.
type Config struct {
	// PrimaryKeys is primary_key, one password or a list. The last one encrypts, all
	// decrypt. To rotate, add a key at the end.
	PrimaryKeys []Key
	// DeterministicKey is deterministic_key.
	DeterministicKey Key
	// Salt is key_derivation_salt.
	Salt string
	// Digest is hash_digest_class. Empty means SHA256.
	Digest Digest
	// PrimaryDigest is the digest of the primary keys, if it is another. Rails 7.0 with
	// load_defaults 7.0 derives them under SHA1, before it knows its setting, and all
	// others under SHA256. Empty means Digest.
	PrimaryDigest Digest
	// SHA1Fallback is support_sha1_for_non_deterministic_encryption: what is not
	// deterministic is also read under the primary keys derived with SHA1.
	SHA1Fallback bool
	// KeyReferences is store_key_references: a message names the key that it was
	// encrypted with. It concerns writing.
	KeyReferences bool
	// KeepEncoding is forced_encoding_for_deterministic_encryption = nil. By default
	// deterministic text is converted to UTF-8 before it is encrypted.
	KeepEncoding bool
	// Previous is config.previous: schemes that attributes are also read under. What a
	// scheme sets is merged over the attribute's own one, and it counts only for
	// attributes that are as deterministic as it is. Rails 7.1 and newer ignore key: in
	// these schemes, but not key_provider:. Here Keys count, whichever they come from.
	Previous []Scheme
	// Plaintext is support_unencrypted_data. Zero means PlaintextRefused.
	Plaintext Plaintext
	// MaxInflated is the size in bytes of the largest compressed text that is read.
	// Zero means 64 MiB.
	MaxInflated int
}

// Plaintext says what happens to a column that no scheme reads.
type Plaintext uint8

const (
	// PlaintextDefault is that of the Config.
	PlaintextDefault Plaintext = iota
	// PlaintextRefused returns an error.
	PlaintextRefused
	// PlaintextRead takes a column for the text that it holds, unless it is a message or
	// begins like one.
	PlaintextRead
	// PlaintextLax takes any column that does not open for the text that it holds, as
	// support_unencrypted_data does: also messages that were damaged, cut off or forged,
	// and those under a key that is missing. So values are no longer authenticated.
	PlaintextLax
)

// Scheme is the options of an attribute: those of encrypts. The zero value is that of
// encrypts :name.
type Scheme struct {
	// Deterministic is deterministic: true. Equal texts give equal columns.
	Deterministic bool
	// NotFixed is deterministic: {fixed: false}. Without it, a deterministic attribute
	// with previous schemes is written under the first of them, so that old and new rows
	// are found by one value.
	NotFixed bool
	// Keys is key: or the keys of key_provider:. The last one encrypts, all decrypt. Nil
	// means the primary keys, or for a deterministic attribute the deterministic key.
	Keys []Key
	// Envelope is an EnvelopeEncryptionKeyProvider: each value has a random key, which is
	// encrypted under the primary keys.
	Envelope bool
	// Downcase is downcase: true, and the column itself of an attribute with ignore_case:
	// true. The other column of that, original_name, has the zero Scheme.
	Downcase bool
	// MessagePack is a MessagePackMessageSerializer, for binary columns.
	MessagePack bool
	// Uncompressed is compress: false.
	Uncompressed bool
	// Compressor is compressor:. Nil means zlib at its default level.
	Compressor Compressor
	// Null is a NullEncryptor, for Previous only: it reads any column as its text, like
	// PlaintextLax.
	Null bool
	// Previous is previous: schemes that the attribute is also read under. They inherit
	// nothing of this one, and their own Previous is ignored.
	Previous []Scheme
	// Plaintext is support_unencrypted_data: of the attribute.
	Plaintext Plaintext
	// ColumnDefault is the default of the column in the database, which Rails since 7.1
	// stores and reads as it is. Nil means none.
	ColumnDefault []byte
}

// Encryption is the configuration of an application with its keys. It is immutable and
// safe for concurrent use, and prints as "[redacted]". The zero value is not usable.
type Encryption struct {
	secret.Redacted
	hidden secret.Pointer[encryption]
}

type encryption struct {
	Config
	deriver deriver
}

const defaultMaxInflated = 64 << 20

// New returns the encryption of an application. It returns [kmsencrypted.ErrConfig] for
// an unknown digest or a negative limit. Keys are derived when an attribute first needs
// them, each once, which takes about 20 ms.
func New(c Config) (*Encryption, error) {
	for _, d := range []Digest{c.Digest, c.PrimaryDigest} {
		if _, ok := digests[d]; !ok {
			return nil, configError("unknown digest %q", d)
		}
	}
	switch {
	case c.MaxInflated < 0:
		return nil, configError("MaxInflated of %d bytes", c.MaxInflated)
	case c.MaxInflated == 0:
		c.MaxInflated = defaultMaxInflated
	}
	if c.PrimaryDigest == "" {
		c.PrimaryDigest = c.Digest
	}
	return &Encryption{hidden: secret.Hide(encryption{
		Config:  c,
		deriver: deriver{salt: c.Salt, done: make(map[keyText]*key)},
	})}, nil
}

// Attribute returns an attribute with the options of a scheme. It derives the keys that
// the attribute needs. It returns [kmsencrypted.ErrConfig] for a key that is missing and
// for options that contradict each other.
func (e *Encryption) Attribute(s Scheme) (*Attribute, error) {
	if e == nil || e.hidden.Get() == nil {
		return nil, configError("the Encryption was not made by New")
	}
	return e.hidden.Get().attribute(s)
}

func (e *encryption) attribute(s Scheme) (*Attribute, error) {
	schemes := append([]Scheme{s}, e.previous(s)...)
	a := attribute{
		plaintext:    s.Plaintext,
		limit:        e.MaxInflated,
		keepEncoding: e.KeepEncoding,
		unencrypted:  s.ColumnDefault,
	}
	if a.plaintext == PlaintextDefault {
		a.plaintext = e.Plaintext
	}
	for _, s := range schemes {
		v, err := e.variant(s)
		if err != nil {
			return nil, err
		}
		a.variants = append(a.variants, v)
	}
	if s.Deterministic && !s.NotFixed && len(schemes) > 1 {
		a.writes = 1
	}
	if a.variants[a.writes].null {
		return nil, configError("the attribute would be written as plaintext, by a NullEncryptor")
	}
	return &Attribute{hidden: secret.Hide(a)}, nil
}

// previous returns the schemes that an attribute is also read under: those of the
// configuration, the fallback to SHA1, and its own.
func (e *encryption) previous(s Scheme) (all []Scheme) {
	for _, p := range e.Previous {
		if p.Deterministic == s.Deterministic {
			all = append(all, s.merge(p))
		}
	}
	if e.SHA1Fallback && !s.Deterministic {
		var keys []Key
		for _, k := range e.PrimaryKeys {
			keys = append(keys, k.With(SHA1))
		}
		if len(keys) > 0 {
			all = append(all, s.merge(Scheme{Keys: keys}))
		}
	}
	return append(all, s.Previous...)
}

// merge returns the scheme with what p sets.
func (s Scheme) merge(p Scheme) Scheme {
	if p.Keys != nil || p.Envelope {
		s.Keys, s.Envelope = p.Keys, p.Envelope
	}
	s.Downcase = s.Downcase || p.Downcase
	s.MessagePack = s.MessagePack || p.MessagePack
	s.Uncompressed = s.Uncompressed || p.Uncompressed
	s.Null = s.Null || p.Null
	if p.Compressor != nil {
		s.Compressor = p.Compressor
	}
	return s
}

// variant returns a scheme with its keys.
func (e *encryption) variant(s Scheme) (v variant, err error) {
	v = variant{
		deterministic: s.Deterministic,
		downcase:      s.Downcase,
		references:    e.KeyReferences,
		null:          s.Null,
		serializer:    jsonSerializer{},
		inflate:       zlibCompressor{},
	}
	if s.MessagePack {
		v.serializer = messagePack{}
	}
	if s.Compressor != nil {
		v.inflate = s.Compressor
	}
	if !s.Uncompressed {
		v.deflate = v.inflate
	}
	keys, digest := s.Keys, e.Digest
	switch {
	case s.Null:
		return v, nil
	case s.Envelope && len(keys) > 0:
		return v, configError("keys of its own for an envelope, which uses the primary keys")
	case s.Envelope:
		v.envelope = true
		keys, digest = e.PrimaryKeys, e.PrimaryDigest
	case len(keys) > 0:
	case s.Deterministic:
		keys = nil
		if !e.DeterministicKey.IsZero() {
			keys = []Key{e.DeterministicKey}
		}
	default:
		keys, digest = e.PrimaryKeys, e.PrimaryDigest
	}
	if len(keys) == 0 {
		name := "PrimaryKeys (primary_key)"
		if s.Deterministic && !s.Envelope {
			name = "DeterministicKey (deterministic_key)"
		}
		return v, configError("the attribute needs Config.%s", name)
	}
	v.keys, err = e.deriver.deriveAll(keys, digest)
	return v, err
}
