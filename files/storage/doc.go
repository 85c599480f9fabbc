// Package storage opens the stores of files that a configuration names, as Active
// Storage does with config/storage.yml:
//
//	local:
//	  service: Disk
//	  root: /var/lib/app/files
//
//	amazon:
//	  service: S3
//	  bucket: my-app
//	  region: eu-central-1
//	  upload:
//	    server_side_encryption: aws:kms
//	    ssekms_key_id: arn:aws:kms:eu-central-1:123456789012:key/…
//
//	amazon_encrypted:
//	  service: EncryptedS3
//	  bucket: my-app
//	  region: eu-central-1
//	  kms_key_id: alias/files
//
// The program gives the services to a manager of attachments, which keeps the name of
// its service with each file:
//
//	services, err := storage.Open(ctx, text, storage.Options{})
//	...
//	defer services.Close()
//	documents, err := attach.NewRails(ctx, db, field.Postgres, model, attach.RailsConfig[Document]{
//		Buckets: services.Buckets(),
//		Bucket:  "amazon", // the default
//		…
//	})
//
// A [Service] also has the operations that a service of Active Storage has, for programs
// that keep files without rows.
//
// # Settings
//
// The values of all settings may have references to the environment, such as
// ${AWS_BUCKET}. A variable that is not set is an error. So is a setting that a service
// does not have.
//
//	service                                    Disk, Memory, S3, URL, EncryptedS3, NativeS3 or NativeURL
//	root                                       Disk: the folder
//	url                                        URL kinds: of a bucket of gocloud.dev, such as gs://my-app;
//	                                           the program imports the driver
//	bucket, region, endpoint, prefix           S3 kinds: prefix begins the key of each object
//	force_path_style                           S3 kinds: true for most servers that are not AWS's
//	profile                                    S3 kinds: of the shared configuration files
//	access_key_id, secret_access_key,
//	session_token                              S3 kinds: without these, the chain of AWS's SDK
//	upload                                     S3 kinds: server_side_encryption, ssekms_key_id,
//	                                           cache_control and storage_class of new objects
//	kms_key_id                                 EncryptedS3: the key in KMS; or
//	encryption_key                             a key of 32 bytes, also as base64:…; or
//	encryption_key_file                        a file with an RSA key in PEM
//	kms_encryption_context                     EncryptedS3: a map, compared whenever an object is read
//	format                                     EncryptedS3: v2 (the default) or v3, of new objects
//	envelope_location                          EncryptedS3: metadata (the default) or instruction_file
//	security_profile                           EncryptedS3: v2 (the default) or v2_and_legacy
//
// Objects of EncryptedS3 are those of AWS's encryption clients; see package files/s3ec. Those of
// the native kinds are in this library's format, which no Rails application reads: a range is read and checked
// without the rest, and [Options].Box wraps their data keys; see package files/gocloud.
// Those of the other services are stored as they are given, which package files/attach
// encrypts. Lockbox's encrypts_attached belongs to the attachment and not to the service:
// see [attach.RailsAttachment].
package storage
