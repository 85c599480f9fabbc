package storage

import (
	"crypto/md5"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
)

const theSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

// environment is one without variables of this machine.
func environment(variables map[string]string) Options {
	return Options{LookupEnv: func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	}}
}

func open(t *testing.T, text string, o Options) (*Services, error) {
	t.Helper()
	services, err := Open(t.Context(), []byte(text), o)
	if err == nil {
		t.Cleanup(func() {
			if err := services.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return services, err
}

const s3Text = `
amazon: &common
  service: S3
  bucket: ${BUCKET}
  region: eu-central-1
  access_key_id: ${ID}
  secret_access_key: ${SECRET}
encrypted:
  service: EncryptedS3
  bucket: my-${BUCKET}-files
  region: eu-central-1
  access_key_id: ${ID}
  secret_access_key: ${SECRET}
  encryption_key: ${KEY}
`

var s3Environment = map[string]string{"BUCKET": "app", "ID": "AKIAIOSFODNN7EXAMPLE", "SECRET": theSecret, "KEY": "a static key that has 32 bytes.."}

func TestOpen(t *testing.T) {
	t.Parallel()
	o := environment(s3Environment)
	o.Strict = true
	services, err := open(t, s3Text, o)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(services.Names()); got != "[amazon encrypted]" {
		t.Errorf("Names() = %s", got)
	}
	if buckets := services.Buckets(); len(buckets) != 2 || buckets["amazon"] == nil || buckets["encrypted"] == nil {
		t.Errorf("Buckets() = %v", buckets)
	}
	for name, want := range map[string]bool{"amazon": false, "encrypted": true} {
		s, err := services.Service(name)
		if err != nil || s.Encrypts() != want || s.Name() != name {
			t.Errorf("Service(%s) = %s, %t, %v", name, s.Name(), s.Encrypts(), err)
		}
	}
	if _, err := services.Service("amason"); !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(err.Error(), `"amason"`) {
		t.Errorf("an unknown service = %v", err)
	}
	if text := fmt.Sprintf("%+v %#v", services, services.byName["encrypted"]); strings.Contains(text, theSecret) || strings.Contains(text, s3Environment["KEY"]) {
		t.Error("a secret is printed")
	}
}

// Every mistake is named, with the service or the line, and no error shows a secret.
func TestMistakes(t *testing.T) {
	t.Parallel()
	const s3 = "a:\n  service: S3\n  bucket: b\n  region: r\n"
	const encrypted = "a:\n  service: EncryptedS3\n  bucket: b\n  region: r\n"
	for text, want := range map[string]string{
		"":                                "no map of services",
		"- a":                             "no map of services",
		"a: [" + theSecret:                "no YAML",
		"a: " + theSecret:                 "a is no map",
		"a:\n  service: Disc":             `kind "Disc"`,
		"a:\n  bucket: b":                 `kind ""`,
		"a:\n  service: Disk":             "no root",
		"a:\n  service: Disk\n  root: ''": "root",
		"a:\n  service: Disk\n  root:":    "root",
		"a:\n  service: Disk\n  rot: x":   "unknown setting rot",
		"a:\n  service: Disk\n  root: x\n  bucket: y":                                     "no setting bucket",
		"a:\n  service: Memory\na:\n  service: Memory":                                    "twice",
		"a:\n  service: Disk\n  root: ${HOME_OF_NOBODY}":                                  "no HOME_OF_NOBODY",
		"a:\n  service: S3\n  region: r":                                                  "no bucket",
		s3 + "  force_path_style: " + theSecret:                                           "true or false",
		s3 + "  secret_access_key: " + theSecret:                                          "go together",
		s3 + "  kms_key_id: alias/x":                                                      "no setting kms_key_id",
		s3 + "  upload: x":                                                                "upload is no map",
		s3 + "  upload:\n    acl: public":                                                 "unknown setting acl",
		s3 + "  upload:\n    server_side_encryption: rot13":                               "rot13",
		s3 + "  upload:\n    server_side_encryption: aws:kms\n    ssekms_key_id: alias/x": "alias",
		encrypted: "want one of",
		encrypted + "  encryption_key: short" + theSecret:             "32",
		encrypted + "  kms_key_id: x\n  encryption_key: y":            "want one of",
		encrypted + "  kms_key_id: x\n  format: v1":                   `format "v1"`,
		encrypted + "  kms_key_id: x\n  envelope_location: elsewhere": "envelope_location",
		encrypted + "  kms_key_id: x\n  security_profile: v9":         "security_profile",
		encrypted + "  kms_key_id: x\n  kms_encryption_context: y":    "map of texts",
		encrypted + "  encryption_key_file: /nowhere/at/all":          "encryption_key_file",
		"a:\n  service: URL\n  url: nowhere://me:" + theSecret + "@x": "url",
		"a:\n  service: URL\n  url: mem://?secret=" + theSecret:       "url",
		"a:\n  service: Disk\n  root: <%= Rails.root %>":              "ERB",
	} {
		_, err := open(t, text, environment(nil))
		if !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q = %v, want one with %q", text, err, want)
		}
		if strings.Contains(fmt.Sprint(err), theSecret) {
			t.Errorf("%q: the error shows the value: %v", text, err)
		}
	}
}

// Strict knows a secret that stands in the text, whole or in part.
func TestStrict(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"SECRET", "KEY"} {
		for _, value := range []string{"'" + s3Environment[name] + "'", "x${" + name + "}", "'${" + name + "} '"} {
			text := strings.ReplaceAll(s3Text, "${"+name+"}", value)
			o := environment(s3Environment)
			o.Strict = true
			_, err := open(t, text, o)
			if !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(fmt.Sprint(err), "refer to the environment") || strings.Contains(fmt.Sprint(err), s3Environment[name]) {
				t.Errorf("%s = %s: %v", name, value, err)
			}
		}
	}
	literal := strings.ReplaceAll(strings.ReplaceAll(s3Text, "${SECRET}", theSecret), "${KEY}", "'"+s3Environment["KEY"]+"'")
	if _, err := open(t, literal, environment(s3Environment)); err != nil {
		t.Errorf("not strict: %v", err)
	}
}

// The name of a service does not lead out of the folder of tests, or to another service.
func TestLocalNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../out", "a/b", "./a", "''", ".", ".."} {
		o := environment(nil)
		o.Local = filepath.Join(t.TempDir(), "inside")
		if _, err := open(t, name+": {service: Memory}", o); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("a service named %s = %v", name, err)
		}
	}
}

// Local makes a folder of each service, so that tests use the names of production.
func TestLocal(t *testing.T) {
	t.Parallel()
	o := environment(s3Environment)
	o.Local = t.TempDir()
	services, err := open(t, s3Text, o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := services.Service("encrypted")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Upload(t.Context(), "abcdef", strings.NewReader("hello"), UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(o.Local, "encrypted", "ab", "cd", "abcdef")); string(text) != "hello" {
		t.Errorf("the file = %q, %v", text, err)
	}
}

// A URL is signed without a call, and what the store must compare is signed with it.
func TestURLs(t *testing.T) {
	t.Parallel()
	text := strings.Replace(s3Text, "region: eu-central-1\n", "region: eu-central-1\n  prefix: one/\n  upload: {server_side_encryption: 'aws:kms', cache_control: no-store}\n", 1)
	services, err := open(t, text, environment(s3Environment))
	if err != nil {
		t.Fatal(err)
	}
	plain, encrypted := services.byName["amazon"], services.byName["encrypted"]
	link, err := plain.URL(t.Context(), "abcdef", URLOptions{ContentDisposition: "inline"})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := url.Parse(link)
	if err != nil || parsed.Path != "/one/abcdef" || parsed.Query().Get("X-Amz-Expires") != "300" || parsed.Query().Get("response-content-disposition") != "inline" {
		t.Errorf("URL() = %s, %v", link, err)
	}
	sum := md5.Sum([]byte("hello"))
	link, headers, err := plain.DirectUploadURL(t.Context(), "abcdef", DirectUpload{Size: 5, MD5: sum[:], Headers: Headers{ContentType: "text/plain", Metadata: map[string]string{"by": "me"}}})
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{"Content-Md5": {"XUFAKrxLKna5cZ2REBfFkg=="}, "Content-Type": {"text/plain"}, "Cache-Control": {"no-store"}, "X-Amz-Meta-By": {"me"}, "X-Amz-Server-Side-Encryption": {"aws:kms"}}
	got := http.Header{}
	for name, values := range headers {
		got[http.CanonicalHeaderKey(name)] = values
	}
	if !maps.EqualFunc(got, want, func(a, b []string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
		t.Errorf("headers = %v, want %v", got, want)
	}
	if parsed, err := url.Parse(link); err != nil || !strings.Contains(parsed.Query().Get("X-Amz-SignedHeaders"), "content-length;content-md5") {
		t.Errorf("DirectUploadURL() = %s, %v", link, err)
	}
	_, errURL := encrypted.URL(t.Context(), "abcdef", URLOptions{})
	_, _, errDirect := encrypted.DirectUploadURL(t.Context(), "abcdef", DirectUpload{Size: 5, MD5: sum[:]})
	if !errors.Is(errURL, errors.ErrUnsupported) || !errors.Is(errDirect, errors.ErrUnsupported) {
		t.Errorf("an encrypted service has URLs: %v, %v", errURL, errDirect)
	}
}

func TestZeroValues(t *testing.T) {
	t.Parallel()
	for _, s := range []*Service{new(Service), nil} {
		zerotest.Methods(t, s, "Name", "Encrypts", "Bucket")
	}
	for _, s := range []*Services{new(Services), nil} {
		zerotest.Methods(t, s, "Names", "Buckets", "Close")
		if len(s.Names()) != 0 || len(s.Buckets()) != 0 || s.Close() != nil {
			t.Error("services without Open are not empty")
		}
	}
}
