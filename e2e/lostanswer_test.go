package e2e

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"

	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// losesAnswers is a way to a server that loses the answer to the first PUT of each object.
func losesAnswers(t *testing.T, endpoint string) string {
	t.Helper()
	to, err := url.Parse(endpoint)
	must(t, err)
	var lost sync.Map
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // which is signed
		},
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Method != http.MethodPut || !strings.Contains(r.Request.URL.Path, "/"+s3Name+"/") {
				return nil
			}
			if _, again := lost.LoadOrStore(r.Request.URL.Path, true); !again {
				panic(http.ErrAbortHandler)
			}
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}

// The client of S3 sends an object again whose answer was lost, and the store refuses to
// replace it. The object is the writer's own: it is there, it opens, and the write succeeds.
// Over an object of another writer it is refused as ever.
func TestLostAnswersS3(t *testing.T) {
	t.Parallel()
	for name, endpoint := range s3Endpoints(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newS3ECWorld(t, losesAnswers(t, endpoint))
			content := numbered(100_000)
			for _, o := range []s3ec.Options{{Format: s3ec.V2}, {Format: s3ec.V2, Instruction: true}, {Format: s3ec.V3, Instruction: true}} {
				o.Keys = []s3ec.Key{w.keys["aes"]}
				c := w.client(t, o)
				object := o.Format.String() + map[bool]string{true: " with instruction"}[o.Instruction]
				for _, content := range [][]byte{content, nil} {
					object += "."
					_, err := c.Put(t.Context(), object, bytes.NewReader(content), int64(len(content)), s3ec.PutOptions{IfNotExist: true})
					if err != nil {
						t.Errorf("Put of %s: %v", object, err)
					}
					w.reads(t, c, object, nil, content)
					_, err = c.Put(t.Context(), object, bytes.NewReader(content), int64(len(content)), s3ec.PutOptions{IfNotExist: true})
					if !errors.Is(err, fs.ErrExist) {
						t.Errorf("another Put of %s = %v, want fs.ErrExist", object, err)
					}
					w.reads(t, c, object, nil, content)
				}
			}

			inner, err := s3blob.OpenBucket(t.Context(), w.s3, s3Name, nil)
			must(t, err)
			defer inner.Close()
			b := gocloud.Encrypt(inner, "lost answers", kmstest.Box(t))
			if err := b.WriteAll(t.Context(), "x", content, &blob.WriterOptions{IfNotExist: true}); err != nil {
				t.Errorf("write into an encrypted bucket: %v", err)
			}
			if err := b.WriteAll(t.Context(), "x", content[1:], &blob.WriterOptions{IfNotExist: true}); err == nil {
				t.Error("another write over it succeeded")
			}
			r, err := b.NewReader(t.Context(), "x", nil)
			must(t, err)
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
				t.Errorf("the object has %d bytes, %v", len(got), err)
			}
		})
	}
}
