package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/attach/buckettest"
	"github.com/kmsencrypted/kmsencrypted/files/storage"
)

// partsBucket makes the bucket of a server and opens it as a service.
func partsBucket(t *testing.T, endpoint string) attach.PartSigner {
	t.Helper()
	client := s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("id0000", "secret00", "")})
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(s3Name)})
	must(t, err)
	s, err := openStorage(t, (&storageServer{url: endpoint}).service("plain", "S3", "prefix: some/"), storage.Options{}).Service("plain")
	must(t, err)
	return s.Bucket().(attach.PartSigner)
}

// send makes a request as a browser does.
func send(t *testing.T, method, url string, header http.Header, body []byte) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	must(t, err)
	for name, values := range header {
		r.Header[name] = values
	}
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(text)
}

// A service of kind S3 takes objects in parts, and its URLs sign length and SHA-256. What
// gofakes3 does not compare is listed, so that we notice if that changes.
func TestParts(t *testing.T) {
	t.Parallel()
	for server, endpoint := range s3Endpoints(t) {
		t.Run(server, func(t *testing.T) {
			bucket := partsBucket(t, endpoint)
			buckettest.Run(t, bucket)
			signedParts(t, bucket, server == "gofakes3")
		})
	}
}

func signedParts(t *testing.T, bucket attach.PartSigner, trusting bool) {
	const name = "abcdefghijklmnopqrstuvwxyz01"
	upload, err := bucket.BeginParts(t.Context(), name)
	must(t, err)
	t.Cleanup(func() { bucket.AbortParts(t.Context(), name, upload) })
	content := []byte("the sealed bytes of a part")
	p := attach.Part{Number: 1, Size: int64(len(content)), SHA256: sha256.Sum256(content)}
	url, header, err := bucket.SignPart(t.Context(), name, upload, p, time.Minute)
	must(t, err)
	if !strings.Contains(url, "content-length") || header.Get("X-Amz-Checksum-Sha256") == "" {
		t.Errorf("the URL %s signs no length, or the headers %v have no SHA-256", url, header)
	}
	other := []byte("other bytes of that length")
	forged := header.Clone()
	sum := sha256.Sum256(other)
	forged.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
	bare := header.Clone()
	bare.Del("X-Amz-Checksum-Sha256")
	expired, _, err := bucket.SignPart(t.Context(), name, upload, p, time.Second)
	must(t, err)
	time.Sleep(2100 * time.Millisecond)
	for what, try := range map[string]struct {
		url    string
		header http.Header
		body   []byte
	}{
		"other bytes":                   {url, header, other},
		"other bytes and their SHA-256": {url, forged, other},
		"no SHA-256":                    {url, bare, other},
		"fewer bytes":                   {url, header, content[1:]},
		"more bytes":                    {url, header, append(bytes.Clone(content), 1)},
		"another part":                  {strings.Replace(url, "partNumber=1", "partNumber=2", 1), header, content},
		"another object":                {strings.Replace(url, name, strings.ToUpper(name), 1), header, content},
		"an expired URL":                {expired, header, content},
	} {
		status, answer := send(t, http.MethodPut, try.url, try.header, try.body)
		if refused := status >= 400; refused == trusting && what != "another object" {
			t.Errorf("PUT with %s = %d %s", what, status, answer)
		}
	}
	if list, err := bucket.ListParts(t.Context(), name, upload); !trusting && (err != nil || len(list) != 0) {
		t.Errorf("the store has %v, %v", list, err)
	}
	if status, answer := send(t, http.MethodPut, url, header, content); status != http.StatusOK {
		t.Fatalf("PUT = %d %s", status, answer)
	}
	must(t, bucket.AbortParts(t.Context(), name, upload))
	if status, _ := send(t, http.MethodPut, url, header, content); status != http.StatusNotFound {
		t.Errorf("PUT after AbortParts = %d, want 404", status)
	}
}
