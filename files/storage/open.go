package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/config"
	"gocloud.dev/blob"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
)

// Options are the options of [Open].
type Options struct {
	// Strict refuses secrets that stand in the configuration itself: secret_access_key,
	// session_token and encryption_key must be references to the environment.
	Strict bool
	// LookupEnv finds the variables of references. Nil means [os.LookupEnv].
	LookupEnv func(name string) (value string, ok bool)
	// Local, if not empty, is a folder for tests: each service is a folder in it that has
	// the name of the service, and nothing is encrypted or sent anywhere.
	Local string
	// Provider opens the key of a kms_key_id. Nil means AWS KMS, with the region and the
	// credentials of the service.
	Provider func(ctx context.Context, keyID string) (kmsencrypted.Provider, error)
	// Box wraps the data keys of the objects in services of kind NativeS3 and NativeURL. Its versions and
	// their keys are the program's, so that they can be rotated.
	Box *kmsencrypted.Box
	// AWS are further settings for AWS's SDK, for S3 and KMS.
	AWS []func(*config.LoadOptions) error
}

// Services are open stores by name. It is safe for concurrent use.
type Services struct{ byName map[string]*Service }

// Open opens the services of a configuration in YAML; the package comment lists its
// settings. It returns [kmsencrypted.ErrConfig] for a configuration with an error. Errors
// never contain a value of a setting that is secret. Open makes no call to S3 or a key
// service, but the driver of a URL and Options.Provider may. The caller closes the
// services.
func Open(ctx context.Context, text []byte, o Options) (*Services, error) {
	all, err := parse(text, o)
	if err != nil {
		return nil, err
	}
	services := &Services{make(map[string]*Service)}
	for _, s := range all {
		open := kinds[s.service].open
		if o.Local != "" {
			if !filepath.IsLocal(s.name) || filepath.Base(s.name) != s.name || s.name == "." {
				return nil, errors.Join(configError("service %q is no name of a folder", s.name), services.Close())
			}
			s.root, open = filepath.Join(o.Local, s.name), openDisk
		}
		service, err := open(ctx, s, o)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("storage: service %s: %w", s.name, err), services.Close())
		}
		service.name = s.name
		services.byName[s.name] = service
	}
	return services, nil
}

// Names returns the names of all services in order.
func (s *Services) Names() []string {
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.byName))
}

// Service returns the service of a name, or [kmsencrypted.ErrConfig] if there is none.
func (s *Services) Service(name string) (*Service, error) {
	if s == nil || s.byName[name] == nil {
		return nil, configError("no service %q in the configuration", name)
	}
	return s.byName[name], nil
}

// Buckets returns all services, for [attach.Config] and [attach.RailsConfig].
func (s *Services) Buckets() map[string]attach.Bucket {
	buckets := make(map[string]attach.Bucket)
	for _, name := range s.Names() {
		buckets[name] = s.byName[name].bucket
	}
	return buckets
}

// Close closes all services. Nothing may use them then.
func (s *Services) Close() error {
	var errs []error
	for _, name := range s.Names() {
		if err := s.byName[name].close(); err != nil {
			errs = append(errs, fmt.Errorf("storage: service %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// kind is a kind of service.
type kind struct {
	settings []string // that it has
	open     func(context.Context, settings, Options) (*Service, error)
}

var (
	s3Settings = []string{"bucket", "region", "endpoint", "prefix", "profile", "force_path_style",
		"access_key_id", "secret_access_key", "session_token", "upload"}
	urlSettings       = []string{"url", "prefix"}
	encryptedSettings = append([]string{"kms_key_id", "encryption_key", "encryption_key_file", "kms_encryption_context",
		"format", "envelope_location", "security_profile"}, s3Settings...)
)

var kinds = map[string]kind{
	"Disk":        {[]string{"root"}, openDisk},
	"Memory":      {nil, openMemory},
	"URL":         {urlSettings, openURL},
	"S3":          {s3Settings, openS3},
	"EncryptedS3": {encryptedSettings, openEncryptedS3},
	"NativeS3":    {s3Settings, openNativeS3},
	"NativeURL":   {urlSettings, openNativeURL},
}

func (k kind) has(setting string) error {
	if setting != "service" && !slices.Contains(k.settings, setting) {
		return fmt.Errorf("it has no setting %s", setting)
	}
	return nil
}

func openDisk(_ context.Context, s settings, _ Options) (*Service, error) {
	if s.root == "" {
		return nil, configError("no root")
	}
	dir, err := attach.OpenDir(s.root)
	if err != nil {
		return nil, err
	}
	return &Service{bucket: dir, list: listed(dir), has: func(ctx context.Context, key string) (bool, error) { return hasFile(ctx, dir, key) }, close: dir.Close}, nil
}

// hasFile reports whether a folder has an object, without a walk through the folder.
func hasFile(ctx context.Context, dir *attach.Dir, key string) (bool, error) {
	object, err := dir.Open(ctx, key)
	switch {
	case err == nil:
		return true, object.Close()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid), errors.Is(err, syscall.ENOTDIR):
		return false, nil
	}
	return false, err
}

func openMemory(context.Context, settings, Options) (*Service, error) {
	memory := new(attach.Memory)
	return &Service{bucket: memory, list: listed(memory), close: func() error { return nil }}, nil
}

func openURL(ctx context.Context, s settings, _ Options) (*Service, error) {
	bucket, err := s.openBlob(ctx)
	if err != nil {
		return nil, err
	}
	return &Service{bucket: gocloud.Attachments(bucket), list: listedBlobs(bucket), close: bucket.Close}, nil
}

func (s settings) openBlob(ctx context.Context) (*blob.Bucket, error) {
	bucket, err := blob.OpenBucket(ctx, s.url)
	if err != nil { // its text has the URL, which may have a password
		return nil, configError("the url cannot be opened: is its driver imported, and are its parameters right?")
	}
	if s.prefix != "" {
		bucket = blob.PrefixedBucket(bucket, s.prefix)
	}
	return bucket, nil
}
