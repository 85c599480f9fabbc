package storage

import (
	"context"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec/s3client"
	"github.com/kmsencrypted/kmsencrypted/internal/awsconfig"
	providers "github.com/kmsencrypted/kmsencrypted/providers/aws"
)

// openS3 opens a service whose objects are stored as they are given.
func openS3(ctx context.Context, s settings, o Options) (*Service, error) {
	_, client, err := s.client(ctx, o)
	if err != nil {
		return nil, err
	}
	bucket, err := s.open(ctx, client)
	if err != nil {
		return nil, err
	}
	return &Service{
		bucket: s.parted(client, gocloud.Attachments(bucket)), list: listedBlobs(bucket), close: bucket.Close,
		signer: &signer{s3.NewPresignClient(client), s.bucket, s.prefix},
	}, nil
}

// isInstruction reports whether a key is that of an instruction object, which belongs to its object.
func isInstruction(key string) bool { return strings.HasSuffix(key, ".instruction") }

// openEncryptedS3 opens a service whose objects are encrypted as AWS's clients do.
func openEncryptedS3(ctx context.Context, s settings, o Options) (*Service, error) {
	cfg, client, err := s.client(ctx, o)
	if err != nil {
		return nil, err
	}
	options, err := s.encryption()
	if err != nil {
		return nil, err
	}
	key, err := s.key(ctx, cfg, o)
	if err != nil {
		return nil, err
	}
	options.Keys = []s3ec.Key{key}
	store, err := s3client.New(client, s.bucket, s3client.Options{Prefix: s.prefix})
	if err != nil {
		return nil, err
	}
	encrypted, err := s3ec.New(store, options)
	if err != nil {
		return nil, err
	}
	plain, err := s.open(ctx, client) // which lists
	if err != nil {
		return nil, err
	}
	return &Service{
		bucket: attach.S3EC(encrypted, s.encryptionContext), list: listedBlobs(plain).except(isInstruction), close: plain.Close,
		encrypts: true,
	}, nil
}

// client makes a client of S3 that sends and checks the settings of uploads.
func (s settings) client(ctx context.Context, o Options) (aws.Config, *s3.Client, error) {
	if s.bucket == "" {
		return aws.Config{}, nil, configError("no bucket")
	}
	var load []func(*config.LoadOptions) error
	if s.region != "" {
		load = append(load, config.WithRegion(s.region))
	}
	if s.profile != "" {
		load = append(load, config.WithSharedConfigProfile(s.profile))
	}
	if (s.accessKeyID == "") != (s.secretAccessKey == "") || s.sessionToken != "" && s.accessKeyID == "" {
		return aws.Config{}, nil, configError("access_key_id and secret_access_key go together")
	}
	if s.accessKeyID != "" {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(s.accessKeyID, s.secretAccessKey, s.sessionToken)))
	}
	cfg, err := awsconfig.Load(ctx, append(load, o.AWS...)...)
	if err != nil {
		return aws.Config{}, nil, configError("%w", err)
	}
	if cfg.Region == "" {
		return aws.Config{}, nil, configError("no region: set it here or in AWS_REGION")
	}
	enforced, err := s3client.Enforce(s3client.ServerSide{Algorithm: types.ServerSideEncryption(s.serverSide), KMSKeyID: s.serverSideKey})
	if err != nil {
		return aws.Config{}, nil, err
	}
	return cfg, s3.NewFromConfig(cfg, enforced, s.sendHeaders, func(o *s3.Options) {
		o.UsePathStyle = s.pathStyle
		o.DisableLogOutputChecksumValidationSkipped = true // of objects without a checksum
		if s.endpoint != "" {
			o.BaseEndpoint = &s.endpoint
		}
		if cache, ok := o.Credentials.(*aws.CredentialsCache); ok {
			o.Retryer = awsconfig.Retryer(o.Retryer, cache)
		}
	}), nil
}

// open opens the bucket for objects as they are given.
func (s settings) open(ctx context.Context, client *s3.Client) (*blob.Bucket, error) {
	bucket, err := s3blob.OpenBucket(ctx, client, s.bucket, nil)
	if err != nil {
		return nil, configError("bucket: %w", err)
	}
	if s.prefix != "" {
		bucket = blob.PrefixedBucket(bucket, s.prefix)
	}
	return bucket, nil
}

// choices are the values of a setting with what they mean; the empty one is the default.
type choices[T any] map[string]T

func (c choices[T]) of(setting, value string) (T, error) {
	is, ok := c[value]
	if !ok {
		return is, configError("unknown %s %q", setting, value)
	}
	return is, nil
}

var (
	formats   = choices[s3ec.Format]{"": s3ec.V2, "v2": s3ec.V2, "v3": s3ec.V3}
	locations = choices[bool]{"": false, "metadata": false, "instruction_file": true}
	profiles  = choices[bool]{"": false, "v2": false, "v2_and_legacy": true}
)

func (s settings) encryption() (o s3ec.Options, err error) {
	if o.Format, err = formats.of("format", s.format); err != nil {
		return o, err
	}
	if o.Instruction, err = locations.of("envelope_location", s.envelopeLocation); err != nil {
		return o, err
	}
	o.LegacyRead, err = profiles.of("security_profile", s.securityProfile)
	return o, err
}

// key opens the one key of the settings.
func (s settings) key(ctx context.Context, cfg aws.Config, o Options) (s3ec.Key, error) {
	given := 0
	for _, key := range []string{s.kmsKeyID, s.encryptionKey, s.encryptionKeyFile} {
		if key != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, configError("want one of kms_key_id, encryption_key and encryption_key_file")
	case s.encryptionKey != "":
		return s3ec.ParseAES(s.encryptionKey, nil)
	case s.encryptionKeyFile != "":
		text, err := os.ReadFile(s.encryptionKeyFile)
		if err != nil {
			return nil, configError("encryption_key_file: %w", err)
		}
		defer clear(text)
		return s3ec.ParseRSA(text, nil)
	}
	open := o.Provider
	if open == nil {
		open = func(_ context.Context, keyID string) (kmsencrypted.Provider, error) {
			return providers.New(kms.NewFromConfig(cfg), keyID, providers.Options{})
		}
	}
	provider, err := open(ctx, s.kmsKeyID)
	if err != nil {
		return nil, err
	}
	return s3ec.KMS(provider), nil
}
