package s3ec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
	"github.com/kmsencrypted/kmsencrypted/internal/gcmstream"
)

// Options are the options of a client.
type Options struct {
	// Keys are the key-encryption keys: the first wraps the data keys of new objects, all
	// of them open objects. A rotation puts a new key before the old one.
	Keys []Key
	// Format is the format of new objects: V2 or V3. Zero means V2.
	Format Format
	// Instruction puts the wrapped key of a new object into an object beside it instead of
	// its metadata. Objects of both kinds are always read.
	Instruction bool
	// Suffix ends the name of the instruction object. Empty means ".instruction".
	Suffix string
	// LegacyRead allows to read V1, whose content is not authenticated: somebody who can
	// write to the bucket can change it. AWS calls it the security profile v2_and_legacy.
	LegacyRead bool
	// OnLegacyRead is called after an object in V1 was opened. Nil means no call.
	OnLegacyRead func(ctx context.Context, key string)
}

// Client reads and writes the encrypted objects of a bucket. It is safe for concurrent
// use.
type Client struct {
	store Store
	o     Options
}

const defaultSuffix = ".instruction"

// New returns a client. It makes no call. It returns [kmsencrypted.ErrConfig] for invalid
// options.
func New(store Store, o Options) (*Client, error) {
	switch {
	case store == nil:
		return nil, configError("the store is nil")
	case len(o.Keys) == 0 || slices.Contains(o.Keys, nil):
		return nil, configError("Options.Keys is empty or has a nil key")
	case o.Format == 0:
		o.Format = V2
	case o.Format != V2 && o.Format != V3:
		return nil, configError("format %v cannot be written", o.Format)
	}
	for _, key := range o.Keys {
		if err := key.check(); err != nil {
			return nil, err
		}
	}
	if o.Suffix == "" {
		o.Suffix = defaultSuffix
	}
	o.Keys = slices.Clone(o.Keys)
	return &Client{store, o}, nil
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Client.
func (c *Client) usable() error {
	if c == nil || c.store == nil {
		return configError("the Client was not made by New")
	}
	return nil
}

// PutOptions are the options of one upload.
type PutOptions struct {
	// Context is the encryption context, only for a key of a key service. It is public:
	// it is stored with the object and in the audit log of the key service.
	Context map[string]string
	// Metadata and Headers are stored with the object. They are not encrypted. Names of
	// metadata have lower case letters; those of the envelope are reserved.
	Metadata map[string]string
	Headers  Headers
	// IfNotExist refuses to replace an object.
	IfNotExist bool
}

// maxMetadata is the limit of S3 for the names and values of an object's metadata, in
// bytes.
const maxMetadata = 2 << 10

// Put encrypts src under a new data key and stores it as key. size is its size in bytes; a
// source with another size is [ErrSize]. A size of -1 is not known: then an object of more
// than one part costs more requests, and the metadata does not say the size. After an
// error, no object was stored, unless the store did not answer.
//
// Put replaces an object of the same name, in one step. But an object with an instruction
// object is two objects, which cannot be replaced in one step: if [Options.Instruction] is
// set and there is an instruction object, Put returns [fs.ErrExist].
//
// Put returns [kmsencrypted.ErrTooLarge] for more than 2^36-32 bytes and for metadata of
// more than 2 KiB, [kmsencrypted.ErrConfig] for invalid options, and the errors of the key
// and the store.
func (c *Client) Put(ctx context.Context, key string, src io.Reader, size int64, o PutOptions) (Version, error) {
	if err := c.usable(); err != nil {
		return Version{}, err
	}
	version, err := c.put(ctx, key, src, size, o)
	return version, failed("put", key, err)
}

func (c *Client) put(ctx context.Context, key string, src io.Reader, size int64, o PutOptions) (Version, error) {
	switch {
	case src == nil || size < -1:
		return Version{}, configError("the source is nil or its size negative")
	case key == "" || strings.HasSuffix(key, c.o.Suffix):
		return Version{}, fmt.Errorf("the name is that of an instruction object: %w", fs.ErrInvalid)
	case size > gcmstream.MaxSize:
		return Version{}, errLarge
	}
	e, message, err := c.newEnvelope(ctx, o.Context)
	if err != nil {
		return Version{}, err
	}
	fields, err := e.fields()
	if err != nil {
		return Version{}, err
	}
	upload := Upload{Size: -1, Metadata: make(map[string]string), Headers: o.Headers, IfNotExist: o.IfNotExist}
	if size >= 0 {
		upload.Size = size + tagSize
		upload.Metadata[namePlainSize] = strconv.FormatInt(size, 10)
	}
	for name, value := range o.Metadata {
		if reserved(strings.ToLower(name)) {
			return Version{}, configError("%s is a reserved name of metadata", name)
		}
		upload.Metadata[name] = value
	}
	if !c.o.Instruction {
		maps.Copy(upload.Metadata, fields)
	}
	for _, name := range notInInstruction {
		if value, ok := fields[name]; ok {
			upload.Metadata[name] = value
			delete(fields, name)
		}
	}
	if err := checkMetadata(upload.Metadata); err != nil {
		return Version{}, err
	}
	if c.o.Instruction {
		if err := c.putInstruction(ctx, key, fields); err != nil {
			return Version{}, err
		}
	}
	sealer := newSealer(ctx, src, size, message)
	defer clear(sealer.buffer)
	upload.Body = sealer
	version, err := c.store.Put(ctx, key, upload)
	if err == nil {
		return version, nil
	}
	found, whose := c.whose(context.WithoutCancel(ctx), key, sealer.head)
	if whose == ours && errors.Is(err, fs.ErrExist) {
		return found, nil
	}
	// An object that may be there needs its instruction object.
	if unused := whose == nobodys || whose == anothers && o.IfNotExist; unused && c.o.Instruction {
		err = errors.Join(err, c.store.Delete(context.WithoutCancel(ctx), key+c.o.Suffix))
	}
	return Version{}, err
}

// owner is who wrote the object that is there after an upload failed.
type owner int

const (
	unknown owner = iota
	nobodys       // there is none
	ours          // the store has it although it returned an error, or refused to store it twice
	anothers
)

// whose compares the object that is stored as key with the first bytes of one that was
// sent. They are ciphertext under a new data key, so no other object has them.
func (c *Client) whose(ctx context.Context, key string, head []byte) (Version, owner) {
	object, err := c.store.Get(ctx, key, Range{})
	if errors.Is(err, fs.ErrNotExist) {
		return Version{}, nobodys
	}
	if err != nil {
		return Version{}, unknown
	}
	defer object.Body.Close()
	there := make([]byte, headSize)
	n, err := fullio.Read(object.Body, there)
	switch {
	case err != nil && err != io.EOF:
		return Version{}, unknown
	case len(head) == headSize && bytes.Equal(there[:n], head):
		return object.Version, ours
	}
	return Version{}, anothers
}

func checkMetadata(metadata map[string]string) error {
	size := 0
	for name, value := range metadata {
		size += len(name) + len(value)
	}
	if size > maxMetadata {
		return fmt.Errorf("%w: metadata of %d bytes, of which S3 accepts %d; set Options.Instruction", kmsencrypted.ErrTooLarge, size, maxMetadata)
	}
	return nil
}

// putInstruction stores an instruction object, before the object itself: so an object
// that can be seen can be read.
func (c *Client) putInstruction(ctx context.Context, key string, fields map[string]string) error {
	text, err := formatStrings(fields)
	if err != nil {
		return err
	}
	if len(text) > maxInstruction {
		return fmt.Errorf("%w: instruction object of %d bytes", kmsencrypted.ErrTooLarge, len(text))
	}
	_, err = c.store.Put(ctx, key+c.o.Suffix, Upload{Body: strings.NewReader(text), Size: int64(len(text)), IfNotExist: true})
	if errors.Is(err, fs.ErrExist) {
		// The one that is there may be ours, if the answer to a first request was lost.
		if there, unread := c.instruction(ctx, key); unread == nil && there == text {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("instruction object: %w", err)
	}
	return nil
}

// newEnvelope makes and wraps a data key.
func (c *Client) newEnvelope(ctx context.Context, context map[string]string) (*envelope, *gcmstream.Message, error) {
	key := c.o.Keys[0]
	e := &envelope{format: c.o.Format, wrap: key.wraps(), content: gcmName}
	if e.format == V3 {
		e.content = v3Name
	}
	var err error
	if e.description, err = key.describe(context, e.content); err != nil {
		return nil, nil, err
	}
	dataKey := randomBytes(keySize)
	defer clear(dataKey)
	if e.wrapped, err = key.wrap(ctx, dataKey, e.content, e.description); err != nil {
		return nil, nil, err
	}
	if e.format == V3 {
		e.message = randomBytes(messageLen)
	} else {
		e.iv = randomBytes(ivSize)
	}
	message, err := e.messageUnder(dataKey)
	return e, message, err
}

// OpenOptions are what the caller expects of an object.
type OpenOptions struct {
	// Context is the encryption context that the object must have. Nil and empty mean
	// that it has none.
	Context map[string]string
	// Expected is the content that the object must have, as a database knows it. Nil
	// means that it is not compared.
	Expected *Content
}

// Content describes the plaintext of an object.
type Content struct {
	Size int64  // in bytes
	MD5  []byte // 16 bytes; nil means that it is not compared
}

// Open checks an object and returns a reader of its plaintext, which reads under ctx. The
// caller closes it. If the check fails, nothing of the object is returned:
//
//   - [kmsencrypted.ErrDecrypt]: wrong key, changed bytes, or not the expected content
//   - [kmsencrypted.ErrBinding]: another encryption context than expected
//   - [kmsencrypted.ErrMalformed]: an envelope that is not valid, or two of them
//   - [kmsencrypted.ErrNotCiphertext]: an object without an envelope
//   - [kmsencrypted.ErrKeyUnusable]: no key of the kind that the object needs
//   - [ErrLegacy]: an object in V1 without [Options.LegacyRead]
//   - [fs.ErrNotExist]: no such object
//
// Other errors are those of the store and the key service.
func (c *Client) Open(ctx context.Context, key string, o OpenOptions) (*Reader, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	r, err := c.open(ctx, key, o)
	return r, failed("open", key, err)
}

func (c *Client) open(ctx context.Context, key string, o OpenOptions) (*Reader, error) {
	object, err := c.store.Get(ctx, key, Range{})
	if err != nil {
		return nil, err
	}
	remote := &remote{ctx: ctx, store: c.store, key: key, version: object.Version, size: object.Size, body: object.Body, end: object.Size}
	defer remote.close()
	e, err := parseEnvelope(object.Metadata, func() (string, error) { return c.instruction(ctx, key) })
	if err != nil {
		return nil, err
	}
	if e.format == V1 && !c.o.LegacyRead {
		return nil, ErrLegacy
	}
	dataKey, err := c.unwrap(ctx, e, o.Context)
	if err != nil {
		return nil, err
	}
	defer clear(dataKey)
	content, err := e.newContent(dataKey)
	if err != nil {
		return nil, err
	}
	r := &Reader{remote: remote, content: content, key: key, info: infoOf(object, e)}
	if err := r.check(o.Expected); err != nil {
		r.wipe()
		return nil, err
	}
	if e.format == V1 && c.o.OnLegacyRead != nil {
		c.o.OnLegacyRead(ctx, key)
	}
	return r, nil
}

// instruction reads an instruction object.
func (c *Client) instruction(ctx context.Context, key string) (string, error) {
	object, err := c.store.Get(ctx, key+c.o.Suffix, Range{})
	if err != nil {
		return "", err
	}
	defer object.Body.Close()
	text := make([]byte, maxInstruction+1)
	n, err := fullio.Read(object.Body, text)
	if err != nil && err != io.EOF {
		return "", err
	}
	if n > maxInstruction {
		return "", malformed("instruction object of more than %d bytes", maxInstruction)
	}
	return string(text[:n]), nil
}

// unwrap tries the keys that can open this kind of wrap. Those with the object's material
// description come first.
func (c *Client) unwrap(ctx context.Context, e *envelope, context map[string]string) ([]byte, error) {
	keys := slices.DeleteFunc(slices.Clone(c.o.Keys), func(k Key) bool { return !k.opens(e.wrap) })
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: the object is wrapped with %s, and Options.Keys has no such key", kmsencrypted.ErrKeyUnusable, e.wrap.name)
	}
	slices.SortStableFunc(keys, func(a, b Key) int { return described(b, e) - described(a, e) })
	var failure error
	for _, key := range keys {
		if err := key.expects(e, context); err != nil {
			return nil, err
		}
		dataKey, err := key.unwrap(ctx, e)
		if err == nil && len(dataKey) != keySize {
			clear(dataKey)
			err = malformed("data key of %d bytes", len(dataKey))
		}
		if err == nil {
			return dataKey, nil
		}
		if failure == nil || errors.Is(failure, kmsencrypted.ErrDecrypt) { // an outage says more
			failure = err
		}
	}
	return nil, failure
}

// described returns 1 if a key has the material description of an object.
func described(k Key, e *envelope) int {
	if description, err := k.describe(nil, e.content); err == nil && maps.Equal(description, e.description) {
		return 1
	}
	return 0
}

// Delete removes an object and then its instruction object. It returns nil if there is
// neither. After an error it can be repeated.
func (c *Client) Delete(ctx context.Context, key string) error {
	if err := c.usable(); err != nil {
		return err
	}
	err := c.store.Delete(ctx, key)
	if err == nil {
		err = c.store.Delete(ctx, key+c.o.Suffix)
	}
	return failed("delete", key, err)
}
