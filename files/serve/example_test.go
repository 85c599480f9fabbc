package serve_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/files/serve"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

func ExampleHandler() {
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		panic(err)
	}
	bucket := gocloud.New(memblob.OpenBucket(nil), "contracts", box, gocloud.Options{})
	request := httptest.NewRequest("GET", "/files/notes.txt", nil)
	err = bucket.Blob().WriteAll(request.Context(), "notes.txt", []byte("to be read by ada"), &blob.WriterOptions{ContentType: "text/plain"})
	if err != nil {
		panic(err)
	}

	mux := http.NewServeMux()
	mux.Handle("GET /files/{key}", serve.Handler(
		func(r *http.Request) (string, error) {
			if user, _, _ := r.BasicAuth(); user != "ada" {
				return "", serve.ErrForbidden
			}
			return r.PathValue("key"), nil
		},
		bucket.Open,
		serve.Options{},
	))

	for _, user := range []string{"eve", "ada"} {
		request.SetBasicAuth(user, "")
		request.Header.Set("Range", "bytes=-3")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, request)
		text, _ := io.ReadAll(w.Result().Body)
		fmt.Printf("%s: %d %s\n", user, w.Code, text)
	}
	// Output:
	// eve: 403 Forbidden
	//
	// ada: 206 ada
}
