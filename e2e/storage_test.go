package e2e

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec/s3client"
	"github.com/kmsencrypted/kmsencrypted/files/storage"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/servicetest"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	awsprovider "github.com/kmsencrypted/kmsencrypted/providers/aws"
)

// storageServer is S3 in this process. Before it answers, meet sees each request, and the
// headers of its answer.
type storageServer struct {
	url  string
	meet func(w http.ResponseWriter, r *http.Request) (answered bool)
}

func newStorageServer(t *testing.T, meet func(http.ResponseWriter, *http.Request) bool) *storageServer {
	t.Helper()
	fake := gofakes3.New(s3mem.New()).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if meet == nil || !meet(w, r) {
			fake.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	client := s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: &server.URL, UsePathStyle: true})
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(s3Name)})
	must(t, err)
	return &storageServer{server.URL, meet}
}

// service is the text of one in the bucket.
func (s *storageServer) service(name, kind string, settings ...string) string {
	common := []string{"service: " + kind, "bucket: " + s3Name, "region: us-east-1", "endpoint: " + s.url, "force_path_style: true", "access_key_id: id0000", "secret_access_key: secret00"}
	return name + ":\n  " + strings.Join(append(common, settings...), "\n  ") + "\n"
}

func openStorage(t *testing.T, text string, o storage.Options) *storage.Services {
	t.Helper()
	services, err := storage.Open(t.Context(), []byte(text), o)
	must(t, err)
	t.Cleanup(func() {
		if err := services.Close(); err != nil {
			t.Error(err)
		}
	})
	return services
}

// Every operation on S3, plain and encrypted under every kind of key, side by side in one
// bucket.
func TestStorage(t *testing.T) {
	t.Parallel()
	server := newStorageServer(t, nil)
	keys := awskms.New()
	t.Cleanup(keys.Close)
	keys.AddKey("7d1c2f0e-0002", s3ecAlias)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	file := filepath.Join(t.TempDir(), "key.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)}), 0o600))
	key := "base64:" + base64.StdEncoding.EncodeToString([]byte("a static key that has 32 bytes.."))
	services := openStorage(t, server.service("plain", "S3")+
		server.service("prefixed", "S3", "prefix: some/folder/")+
		server.service("kms", "EncryptedS3", "prefix: kms/", "kms_key_id: "+s3ecAlias, "kms_encryption_context: {app: shop}")+
		server.service("aes", "EncryptedS3", "prefix: aes/", "encryption_key: ${FILES_KEY}", "envelope_location: instruction_file")+
		server.service("rsa", "EncryptedS3", "prefix: rsa/", "encryption_key_file: "+file, "security_profile: v2_and_legacy")+
		server.service("v3", "EncryptedS3", "prefix: v3/", "kms_key_id: "+s3ecAlias, "format: v3")+
		server.service("native", "NativeS3", "prefix: native/"),
		storage.Options{
			Box:       kmstest.Box(t),
			Strict:    false,
			LookupEnv: func(name string) (string, bool) { return key, name == "FILES_KEY" },
			Provider: func(_ context.Context, id string) (kmsencrypted.Provider, error) {
				return awsprovider.New(keys.Client(), id, awsprovider.Options{})
			},
		})
	for _, name := range services.Names() {
		t.Run(name, func(t *testing.T) {
			s, err := services.Service(name)
			must(t, err)
			servicetest.Run(t, s)
		})
	}
	// The store has no word of what an encrypted service is given.
	raw, err := services.Service("plain")
	must(t, err)
	for _, name := range []string{"kms", "aes", "rsa", "v3", "native"} {
		s, err := services.Service(name)
		must(t, err)
		must(t, s.Upload(t.Context(), "abcdef", strings.NewReader("nobody may read this"), storage.UploadOptions{}))
		var stored strings.Builder
		if _, err := raw.Download(t.Context(), name+"/abcdef", &stored); err != nil || strings.Contains(stored.String(), "nobody") || stored.Len() < 20 {
			t.Errorf("%s: the store has %q, %v", name, stored.String(), err)
		}
	}
	for _, s := range []string{"kms", "prefixed"} { // which are not mixed up
		service, err := services.Service(s)
		must(t, err)
		if is, err := service.Exists(t.Context(), "abcdef"); is != (s == "kms") || err != nil {
			t.Errorf("%s has the object of another: %t, %v", s, is, err)
		}
	}
}

// What a browser needs: it stores with the URL and headers that it was given, and nothing
// else than the file that was announced.
func TestStorageURLs(t *testing.T) {
	t.Parallel()
	services := openStorage(t, newStorageServer(t, nil).service("plain", "S3", "prefix: some/"), storage.Options{})
	s, err := services.Service("plain")
	must(t, err)
	file := "the file of a browser"
	put := func(body string) int {
		link, headers, err := s.DirectUploadURL(t.Context(), "abcdef", storage.DirectUpload{Size: int64(len(file)), MD5: md5Of(file), Headers: storage.Headers{ContentType: "text/plain"}})
		must(t, err)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, link, strings.NewReader(body))
		must(t, err)
		request.Header = headers
		answer, err := http.DefaultClient.Do(request)
		must(t, err)
		answer.Body.Close()
		return answer.StatusCode
	}
	if status := put(strings.ToUpper(file)); status == http.StatusOK {
		t.Error("the store took another file")
	}
	if status := put(file); status != http.StatusOK {
		t.Fatalf("PUT = %d", status)
	}
	link, err := s.URL(t.Context(), "abcdef", storage.URLOptions{})
	must(t, err)
	answer, err := http.Get(link)
	must(t, err)
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); string(body) != file || err != nil || answer.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("GET = %q of type %q, %v", body, answer.Header.Get("Content-Type"), err)
	}
}

// Each upload, small or in parts, plain or encrypted by us as well, asks for the encryption
// by the store; a store that answers with another key keeps nothing.
func TestStorageServerSide(t *testing.T) {
	t.Parallel()
	const want = "arn:aws:kms:us-east-1:123456789012:key/one"
	var answered atomic.Pointer[string]
	var asked atomic.Int64
	var mu sync.Mutex
	var without []string
	server := newStorageServer(t, func(w http.ResponseWriter, r *http.Request) bool {
		query := r.URL.Query()
		begins := r.Method == http.MethodPut && !query.Has("partNumber") || r.Method == http.MethodPost && query.Has("uploads")
		if begins && r.URL.Path != "/"+s3Name {
			asked.Add(1)
			if r.Header.Get("X-Amz-Server-Side-Encryption") != "aws:kms" || r.Header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != want {
				mu.Lock()
				without = append(without, r.Method+" "+r.URL.String())
				mu.Unlock()
			}
		}
		if key := answered.Load(); key != nil && (r.Method == http.MethodPut || r.Method == http.MethodPost) {
			w.Header().Set("X-Amz-Server-Side-Encryption", "aws:kms")
			w.Header().Set("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", *key)
		}
		return false
	})
	upload := "upload: {server_side_encryption: 'aws:kms', ssekms_key_id: '" + want + "'}"
	services := openStorage(t, server.service("plain", "S3", upload)+server.service("both", "EncryptedS3", "prefix: both/", upload, "encryption_key: 'a static key that has 32 bytes..'"), storage.Options{})
	other := strings.Replace(want, "/one", "/two", 1)
	uploads := 0
	for _, name := range services.Names() {
		s, err := services.Service(name)
		must(t, err)
		for i, key := range []*string{nil, &other, aws.String(want)} {
			answered.Store(key)
			for _, size := range []int{10, 12 << 20} {
				object := fmt.Sprint("object", i, size)
				err := s.Upload(t.Context(), object, io.LimitReader(rand.Reader, int64(size)), storage.UploadOptions{})
				uploads++
				if right := key != nil && *key == want; right != (err == nil) || err != nil && !errors.Is(err, s3client.ErrServerSide) {
					t.Errorf("%s, %d bytes, the store answers %v: %v", name, size, aws.ToString(key), err)
				} else if is, _ := s.Exists(t.Context(), object); is != right {
					t.Errorf("%s, %d bytes: the object exists: %t", name, size, is)
				}
			}
		}
	}
	if len(without) > 0 || asked.Load() < int64(uploads) {
		t.Errorf("%d requests asked for it, %v did not", asked.Load(), without)
	}
}

// A store that received other bytes says so, of a small object or of a part of a large one.
// Nothing is kept.
func TestStorageDigest(t *testing.T) {
	t.Parallel()
	var refused atomic.Int64
	server := newStorageServer(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "object") {
			return false
		}
		refused.Add(1)
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, "<Error><Code>BadDigest</Code><Message>The Content-MD5 you specified did not match what we received.</Message></Error>")
		return true
	})
	services := openStorage(t, server.service("plain", "S3")+server.service("encrypted", "EncryptedS3", "prefix: encrypted/", "encryption_key: 'a static key that has 32 bytes..'")+
		server.service("native", "NativeS3", "prefix: native/"), storage.Options{Box: kmstest.Box(t)})
	for _, name := range services.Names() {
		s, err := services.Service(name)
		must(t, err)
		for _, size := range []int{10, 12 << 20} {
			before, object := refused.Load(), fmt.Sprint("object", size)
			err := s.Upload(t.Context(), object, io.LimitReader(rand.Reader, int64(size)), storage.UploadOptions{})
			if !errors.Is(err, s3ec.ErrDigest) || refused.Load() == before {
				t.Errorf("%s, %d bytes: %v, want ErrDigest", name, size, err)
			}
			if is, err := s.Exists(t.Context(), object); is || err != nil {
				t.Errorf("%s, %d bytes: the object exists: %t, %v", name, size, is, err)
			}
		}
	}
}

// Another process renews the shared file: an upload that is under way goes on with the new
// access key.
func TestStorageCredentials(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(id string) {
		must(t, os.WriteFile(file, []byte("[default]\naws_access_key_id = "+id+"\naws_secret_access_key = secret00\n"), 0o600))
	}
	var valid atomic.Pointer[string]
	valid.Store(aws.String("AKIAFIRST"))
	var refused atomic.Int64
	var parts atomic.Int64
	server := newStorageServer(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("partNumber") && parts.Add(1) == 2 { // the key is rotated
			write("AKIASECOND")
			valid.Store(aws.String("AKIASECOND"))
		}
		if id := r.Header.Get("Authorization"); id != "" && !strings.Contains(id, "Credential="+*valid.Load()+"/") {
			refused.Add(1)
			io.Copy(io.Discard, r.Body) // otherwise the client may not see the answer
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "<Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist.</Message></Error>")
			return true
		}
		return false
	})
	write("AKIAFIRST")
	text := strings.ReplaceAll(strings.ReplaceAll(server.service("a", "S3")+server.service("b", "EncryptedS3", "prefix: b/", "encryption_key: 'a static key that has 32 bytes..'"),
		"  access_key_id: id0000\n", ""), "  secret_access_key: secret00\n", "")
	services := openStorage(t, text, storage.Options{AWS: []func(*config.LoadOptions) error{
		config.WithSharedCredentialsFiles([]string{file}), config.WithSharedConfigFiles(nil),
	}})
	for _, name := range services.Names() {
		write("AKIAFIRST")
		valid.Store(aws.String("AKIAFIRST"))
		parts.Store(0)
		before := refused.Load()
		s, err := services.Service(name)
		must(t, err)
		if err := s.Upload(t.Context(), "large", io.LimitReader(rand.Reader, 30<<20), storage.UploadOptions{}); err != nil {
			t.Errorf("%s: an upload across the change = %v", name, err)
		}
		if refused.Load() == before || *valid.Load() != "AKIASECOND" {
			t.Errorf("%s: the key was not changed meanwhile", name)
		}
		if err := s.Upload(t.Context(), "small", strings.NewReader("hello"), storage.UploadOptions{}); err != nil {
			t.Errorf("%s: after the change = %v", name, err)
		}
	}
	write("AKIANOBODY")
	valid.Store(aws.String("AKIATHIRD"))
	s, err := services.Service("a")
	must(t, err)
	if err := s.Upload(t.Context(), "other", strings.NewReader("hello"), storage.UploadOptions{}); err == nil || !strings.Contains(err.Error(), "InvalidAccessKeyId") {
		t.Errorf("a key that is wrong for good = %v", err)
	}
}

// Headers that an upload names arrive at the store.
func TestStorageHeaders(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	server := newStorageServer(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "abcdef") && (r.Method == http.MethodPut || r.Method == http.MethodPost) && !r.URL.Query().Has("partNumber") && !r.URL.Query().Has("uploadId") {
			mu.Lock()
			defer mu.Unlock()
			h := r.Header
			seen = append(seen, strings.Join([]string{h.Get("Content-Type"), h.Get("Content-Disposition"), h.Get("Cache-Control"), h.Get("X-Amz-Storage-Class"), h.Get("X-Amz-Meta-Custom")}, "|"))
		}
		return false
	})
	upload := "upload: {cache_control: no-store, storage_class: STANDARD_IA}"
	services := openStorage(t, server.service("plain", "S3", upload)+server.service("sealed", "EncryptedS3", upload, "prefix: s/", "encryption_key: 'a static key that has 32 bytes..'"), storage.Options{})
	o := storage.UploadOptions{Headers: storage.Headers{ContentType: "image/png", ContentDisposition: "inline", Metadata: map[string]string{"custom": "yes"}}}
	for _, name := range services.Names() {
		s, err := services.Service(name)
		must(t, err)
		for _, size := range []int64{10, 12 << 20} {
			must(t, s.Upload(t.Context(), fmt.Sprint("abcdef", size), io.LimitReader(rand.Reader, size), o))
		}
		if name == "sealed" {
			var got strings.Builder
			if n, err := s.Download(t.Context(), "abcdef10", &got); n != 10 || err != nil {
				t.Errorf("the sealed object = %d bytes, %v", n, err)
			}
		}
	}
	want := "image/png|inline|no-store|STANDARD_IA|yes"
	if len(seen) != 4 || slices.ContainsFunc(seen, func(s string) bool { return s != want }) {
		t.Errorf("the store got %q, want 4 times %q", seen, want)
	}
	s, err := services.Service("sealed")
	must(t, err)
	o.Metadata = map[string]string{"X-Amz-Key-V2": "mine"}
	if err := s.Upload(t.Context(), "abcdefgh", strings.NewReader("x"), o); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("metadata of the envelope = %v", err)
	}
}

func md5Of(text string) []byte {
	sum := md5.Sum([]byte(text))
	return sum[:]
}
