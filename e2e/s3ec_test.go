package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	s3crypto "github.com/aws/amazon-s3-encryption-client-go/v3/client"
	"github.com/aws/amazon-s3-encryption-client-go/v3/materials"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec/s3client"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/rubyprocess"
	awsprovider "github.com/kmsencrypted/kmsencrypted/providers/aws"
)

// versitygw is an S3 server that checks signatures and conditions.
const versitygw = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// s3Endpoints starts the servers that there are: gofakes3 always, and versitygw if it is
// on PATH. With CI=true it is installed.
func s3Endpoints(t testing.TB) map[string]string {
	t.Helper()
	fake := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
	t.Cleanup(fake.Close)
	endpoints := map[string]string{"gofakes3": fake.URL}
	program, err := exec.LookPath("versitygw")
	if err != nil && os.Getenv("CI") == "true" {
		folder := t.TempDir()
		install := exec.CommandContext(t.Context(), "go", "install", versitygw)
		install.Env = append(os.Environ(), "GOBIN="+folder, "GOFLAGS=-mod=mod")
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("no versitygw: %v\n%s", err, out)
		}
		program, err = folder+"/versitygw", nil
	}
	if err != nil {
		t.Log("no versitygw on PATH")
		return endpoints
	}
	endpoints["versitygw"] = startVersitygw(t, program)
	return endpoints
}

func startVersitygw(t testing.TB, program string) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := free.Addr().String()
	free.Close()
	server := exec.Command(program, "--access", "id0000", "--secret", "secret00", "--port", address, "posix", t.TempDir())
	must(t, server.Start())
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			connection.Close()
			return "http://" + address
		}
		if time.Now().After(deadline) {
			t.Fatalf("versitygw does not listen: %v", err)
		}
	}
}

// s3ecWorld is a bucket, a key service, and a key of every kind.
type s3ecWorld struct {
	endpoint string
	s3       *s3.Client
	kms      *awskms.Server
	store    *s3client.Store
	keys     map[string]s3ec.Key
	texts    map[string]string // the keys as Ruby takes them
}

const s3ecAlias = "alias/files"

func newS3ECWorld(t testing.TB, endpoint string) *s3ecWorld {
	t.Helper()
	w := &s3ecWorld{endpoint: endpoint, kms: awskms.New(), keys: make(map[string]s3ec.Key), texts: map[string]string{"kms": s3ecAlias}}
	t.Cleanup(w.kms.Close)
	w.kms.AddKey("7d1c2f0e-0001", s3ecAlias)
	w.s3 = s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("id0000", "secret00", ""),
	})
	_, err := w.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(s3Name)})
	must(t, err)
	w.store, err = s3client.New(w.s3, s3Name, s3client.Options{PartSize: 5 << 20})
	must(t, err)
	provider, err := awsprovider.New(w.kms.Client(), s3ecAlias, awsprovider.Options{})
	must(t, err)
	w.keys["kms"] = s3ec.KMS(provider)
	w.texts["aes"] = base64.StdEncoding.EncodeToString([]byte("a static key that has 32 bytes.."))
	w.keys["aes"], err = s3ec.ParseAES("base64:"+w.texts["aes"], nil)
	must(t, err)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	w.texts["rsa"] = string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)}))
	w.keys["rsa"], err = s3ec.ParseRSA([]byte(w.texts["rsa"]), nil)
	must(t, err)
	return w
}

func (w *s3ecWorld) client(t testing.TB, o s3ec.Options) *s3ec.Client {
	t.Helper()
	c, err := s3ec.New(w.store, o)
	must(t, err)
	return c
}

// awsClient returns AWS's encryption client for Go.
func (w *s3ecWorld) awsClient(t testing.TB) *s3crypto.S3EncryptionClientV3 {
	t.Helper()
	service := kms.New(kms.Options{Region: awskms.Region, BaseEndpoint: &w.kms.URL, Credentials: credentials.NewStaticCredentialsProvider("id0000", "secret00", "")})
	manager, err := materials.NewCryptographicMaterialsManager(materials.NewKmsKeyring(service, s3ecAlias))
	must(t, err)
	c, err := s3crypto.New(w.s3, manager)
	must(t, err)
	return c
}

func (w *s3ecWorld) metadata(t *testing.T, name string) map[string]string {
	t.Helper()
	out, err := w.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(s3Name), Key: &name})
	must(t, err)
	return out.Metadata
}

// fixed is the part of an envelope that is the same in two objects of one size.
func fixed(metadata map[string]string) map[string]string {
	out := make(map[string]string)
	for name, value := range metadata {
		switch name {
		case "x-amz-key-v2", "x-amz-iv": // random: compared by length
			value = fmt.Sprint(len(value), " characters")
		}
		out[name] = value
	}
	return out
}

var s3ecContexts = []map[string]string{nil, {"tenant": "42", "owner": "ada"}}

// s3ecSizes end before, at and after a segment; the last is larger than one part.
var s3ecSizes = []int{0, 1, 1000, 256 << 10, 256<<10 + 1, 6 << 20}

// AWS's client for Go reads what is written here and the other way round, and both write
// the same metadata. V3 is read by it too.
func TestS3ECGoClient(t *testing.T) {
	t.Parallel()
	for server, endpoint := range s3Endpoints(t) {
		t.Run(server, func(t *testing.T) {
			w := newS3ECWorld(t, endpoint)
			theirs, objects := w.awsClient(t), 0
			for _, ec := range s3ecContexts {
				ctx := context.WithValue(t.Context(), s3crypto.EncryptionContext, ec)
				for _, size := range s3ecSizes {
					content := numbered(size)
					for _, format := range []s3ec.Format{s3ec.V2, s3ec.V3} {
						ours := w.client(t, s3ec.Options{Keys: []s3ec.Key{w.keys["kms"]}, Format: format})
						// A new name each time: gofakes3 keeps the metadata of a replaced object.
						name := fmt.Sprint(format, len(ec), size)
						_, err := ours.Put(ctx, "ours/"+name, bytes.NewReader(content), int64(size), s3ec.PutOptions{Context: ec})
						must(t, err)
						out, err := theirs.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(s3Name), Key: aws.String("ours/" + name)})
						if err != nil {
							t.Errorf("%v of %d bytes, context %v: AWS's client = %v", format, size, ec, err)
							continue
						}
						if got, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(got, content) {
							t.Errorf("%v of %d bytes: AWS's client read %d bytes, %v", format, size, len(got), err)
						}
						objects++
						if format == s3ec.V3 {
							continue
						}
						_, err = theirs.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(s3Name), Key: aws.String("theirs/" + name), Body: bytes.NewReader(content)})
						must(t, err)
						w.reads(t, ours, "theirs/"+name, ec, content)
						if a, b := fixed(w.metadata(t, "ours/"+name)), fixed(w.metadata(t, "theirs/"+name)); !maps.Equal(a, b) {
							t.Errorf("%d bytes: metadata\n%v, AWS's client writes\n%v", size, a, b)
						}
						objects++
					}
				}
			}
			t.Logf("counted: %d objects between this module and AWS's client for Go over %s", objects, server)
		})
	}
}

// reads checks that an object opens with its context, whole and in a part, and with no
// other.
func (w *s3ecWorld) reads(t *testing.T, c *s3ec.Client, name string, ec map[string]string, content []byte) {
	t.Helper()
	r, err := c.Open(t.Context(), name, s3ec.OpenOptions{Context: ec, Expected: &s3ec.Content{Size: int64(len(content))}})
	if err != nil {
		t.Errorf("Open(%s) = %v", name, err)
		return
	}
	defer r.Close()
	var whole bytes.Buffer
	if _, err := r.WriteTo(&whole); err != nil || !bytes.Equal(whole.Bytes(), content) {
		t.Errorf("WriteTo of %s = %d bytes, %v", name, whole.Len(), err)
	}
	part := make([]byte, len(content)/3)
	if _, err := r.ReadAt(part, int64(len(content)/2)); err != nil || !bytes.Equal(part, content[len(content)/2:][:len(part)]) {
		t.Errorf("ReadAt of %s = %v", name, err)
	}
	if r.Info().Wrap == "kms+context" {
		_, err = c.Open(t.Context(), name, s3ec.OpenOptions{Context: map[string]string{"tenant": "43"}})
		if !errors.Is(err, kmsencrypted.ErrBinding) {
			t.Errorf("Open(%s) with another context = %v", name, err)
		}
	}
}

// rubyObject is a request to the script.
type rubyObject struct {
	Name        string            `json:"name"`
	Wrap        string            `json:"wrap"`
	Key         string            `json:"key"`
	Context     map[string]string `json:"context,omitempty"`
	Instruction bool              `json:"instruction"`
	Plaintext   *[]byte           `json:"plaintext,omitempty"` // to put; nil to get
}

type rubyAnswer struct {
	Plaintext []byte
	Error     string
}

func (w *s3ecWorld) ruby(t *testing.T, objects []rubyObject) (answers []rubyAnswer) {
	t.Helper()
	request, err := json.Marshal(map[string]any{"s3": w.endpoint, "kms": w.kms.URL, "bucket": s3Name, "objects": objects})
	must(t, err)
	out := rubyprocess.Run(t, []string{"aws-sdk-s3", "aws-sdk-kms"}, bytes.NewReader(request), "testdata/s3ec.rb")
	must(t, json.Unmarshal(out, &answers))
	if len(answers) != len(objects) {
		t.Fatalf("Ruby answered %d of %d requests", len(answers), len(objects))
	}
	return answers
}

// Ruby's EncryptionV2 client, which Rails applications use, reads what is written here and
// the other way round: every kind of key, in metadata and in instruction objects, with
// the same metadata.
func TestS3ECRubyClient(t *testing.T) {
	t.Parallel()
	for server, endpoint := range s3Endpoints(t) {
		t.Run(server, func(t *testing.T) {
			w := newS3ECWorld(t, endpoint)
			var puts, gets []rubyObject
			var contents [][]byte
			for _, wrap := range []string{"kms", "aes", "rsa"} {
				for _, ec := range s3ecContexts {
					if ec != nil && wrap != "kms" {
						continue
					}
					for _, instruction := range []bool{false, true} {
						ours := w.client(t, s3ec.Options{Keys: []s3ec.Key{w.keys[wrap]}, Instruction: instruction})
						for _, size := range s3ecSizes {
							content := numbered(size)
							name := fmt.Sprint(wrap, len(ec), instruction, size)
							_, err := ours.Put(t.Context(), "ours/"+name, bytes.NewReader(content), int64(size), s3ec.PutOptions{Context: ec})
							must(t, err)
							object := rubyObject{Name: "ours/" + name, Wrap: wrap, Key: w.texts[wrap], Context: ec, Instruction: instruction}
							gets = append(gets, object)
							object.Name, object.Plaintext = "theirs/"+name, &content
							puts = append(puts, object)
							contents = append(contents, content)
						}
					}
				}
			}
			for i, answer := range w.ruby(t, gets) {
				if answer.Error != "" || !bytes.Equal(answer.Plaintext, contents[i]) {
					t.Errorf("Ruby reads %s as %d bytes, %s", gets[i].Name, len(answer.Plaintext), answer.Error)
				}
			}
			w.ruby(t, puts)
			for i, put := range puts {
				ours := w.client(t, s3ec.Options{Keys: []s3ec.Key{w.keys[put.Wrap]}})
				w.reads(t, ours, put.Name, put.Context, contents[i])
				w.sameAsRuby(t, gets[i].Name, put.Name)
			}
			// Ruby refuses an object whose context it does not expect, as this module does.
			wrong := gets[slices.IndexFunc(gets, func(o rubyObject) bool { return o.Context != nil })]
			wrong.Context = nil
			if answer := w.ruby(t, []rubyObject{wrong})[0]; !strings.Contains(answer.Error, "DecryptionError") {
				t.Errorf("Ruby without the context = %d bytes, %q", len(answer.Plaintext), answer.Error)
			}
			t.Logf("counted: %d objects between this module and Ruby's client over %s", len(gets)+len(puts), server)
		})
	}
}

// sameAsRuby compares the metadata and the instruction objects of two objects.
func (w *s3ecWorld) sameAsRuby(t *testing.T, ours, theirs string) {
	t.Helper()
	if a, b := fixed(w.metadata(t, ours)), fixed(w.metadata(t, theirs)); !sameEnvelope(a, b) {
		t.Errorf("metadata of %s\n%v, of %s\n%v", ours, a, theirs, b)
	}
	a, b := w.instruction(t, ours), w.instruction(t, theirs)
	if !sameEnvelope(fixed(a), fixed(b)) {
		t.Errorf("instruction object of %s\n%v, of %s\n%v", ours, a, theirs, b)
	}
}

// sameEnvelope compares the description as JSON, because Ruby keeps the order of a hash.
func sameEnvelope(a, b map[string]string) bool {
	const description = "x-amz-matdesc"
	var left, right map[string]string
	json.Unmarshal([]byte(a[description]), &left)
	json.Unmarshal([]byte(b[description]), &right)
	a, b = maps.Clone(a), maps.Clone(b)
	if len(a[description]) != len(b[description]) || !maps.Equal(left, right) {
		return false
	}
	delete(a, description)
	delete(b, description)
	return maps.Equal(a, b)
}

// instruction returns nil if there is no instruction object.
func (w *s3ecWorld) instruction(t *testing.T, name string) (fields map[string]string) {
	t.Helper()
	object, err := w.store.Get(t.Context(), name+".instruction", s3ec.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(t, err)
	defer object.Body.Close()
	must(t, json.NewDecoder(object.Body).Decode(&fields))
	return fields
}

// What a real server says is told by type: no object, an object that is there, one that
// was replaced between the check and a read, a failed upload that leaves nothing.
func TestS3ECServer(t *testing.T) {
	t.Parallel()
	for server, endpoint := range s3Endpoints(t) {
		t.Run(server, func(t *testing.T) {
			w := newS3ECWorld(t, endpoint)
			c := w.client(t, s3ec.Options{Keys: []s3ec.Key{w.keys["aes"]}, Instruction: true})
			_, err := c.Open(t.Context(), "missing", s3ec.OpenOptions{})
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open of nothing = %v", err)
			}
			must(t, c.Delete(t.Context(), "missing"))
			const size = 12<<20 + 345
			put := func(name string) error {
				_, err := c.Put(t.Context(), name, bytes.NewReader(numbered(size)), -1, s3ec.PutOptions{Headers: s3ec.Headers{ContentType: "image/png"}})
				return err
			}
			must(t, put("f"))
			if err := put("f"); !errors.Is(err, fs.ErrExist) {
				t.Errorf("Put over an instruction object = %v", err)
			}
			r, err := c.Open(t.Context(), "f", s3ec.OpenOptions{})
			must(t, err)
			if r.Info().Headers.ContentType != "image/png" || r.Size() != size {
				t.Errorf("Info = %+v, %d bytes", r.Info(), r.Size())
			}
			_, err = w.store.Put(t.Context(), "f", s3ec.Upload{Body: bytes.NewReader(make([]byte, size+16)), Size: size + 16})
			must(t, err)
			if n, err := r.ReadAt(make([]byte, 10), 5<<20); n != 0 || !errors.Is(err, kmsencrypted.ErrDecrypt) {
				t.Errorf("ReadAt of a replaced object = %d, %v", n, err)
			}
			_, err = c.Put(t.Context(), "short", bytes.NewReader(numbered(size)), size+1, s3ec.PutOptions{})
			if !errors.Is(err, s3ec.ErrSize) {
				t.Errorf("Put of a short source = %v", err)
			}
			must(t, c.Delete(t.Context(), "f"))
			list, err := w.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(s3Name)})
			must(t, err)
			uploads, err := w.s3.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(s3Name)})
			must(t, err)
			if len(list.Contents) > 0 || len(uploads.Uploads) > 0 {
				t.Errorf("%d objects and %d uploads are left", len(list.Contents), len(uploads.Uploads))
			}
		})
	}
}
