package e2e

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"gocloud.dev/blob/s3blob"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/peakmemory"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/race"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// Environment of the child processes of TestMemoryOfUploads.
const (
	memoryServer  = "KMSENCRYPTED_TEST_S3_SERVER"  // be the server
	memoryAddress = "KMSENCRYPTED_TEST_S3_ADDRESS" // of a server that runs, here or elsewhere
	memoryUploads = "KMSENCRYPTED_TEST_S3_UPLOADS" // be the client, with so many uploads at a time
)

// An upload to S3 takes at most 24 MiB above what the idle process takes, and eight at
// once at most eight times that. Server and client are processes of their own. A
// server that runs is named by the variable memoryAddress.
func TestMemoryOfUploads(t *testing.T) {
	if os.Getenv(memoryServer) != "" {
		serveS3Forever(t)
	}
	var uploads int
	if fmt.Sscan(os.Getenv(memoryUploads), &uploads); uploads > 0 {
		measureUploads(t, uploads)
		return
	}
	if race.Detector {
		t.Skip("the race detector takes memory of its own")
	}
	address := os.Getenv(memoryAddress)
	if address == "" {
		address = startS3Process(t)
	}
	for _, n := range []int{1, 8} {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemoryOfUploads$", "-test.v")
		child.Env = append(os.Environ(), memoryAddress+"="+address, fmt.Sprint(memoryUploads, "=", n))
		out, err := child.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, text, _ := strings.Cut(string(out), "took KiB: ")
		var took int
		if _, err := fmt.Sscan(text, &took); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Logf("%d uploads at a time: %.1f MiB above idle", n, float64(took)/1024)
		if took > n*24<<10 {
			t.Errorf("%d uploads at a time took %d MiB, want at most %d", n, took>>10, n*24)
		}
	}
}

func serveS3Forever(t *testing.T) {
	server := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
	defer server.Close()
	fmt.Println("address:", server.URL)
	bufio.NewReader(os.Stdin).ReadString('\n') // until the parent ends
	t.SkipNow()
}

func startS3Process(t *testing.T) (address string) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemoryOfUploads$")
	child.Env = append(os.Environ(), memoryServer+"=1")
	in, err := child.StdinPipe()
	must(t, err)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	t.Cleanup(func() { in.Close(); child.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, url, ok := strings.Cut(lines.Text(), "address: "); ok {
			return url
		}
	}
	t.Fatal("the server said no address")
	return ""
}

type memoryRecord struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

func measureUploads(t *testing.T, n int) {
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(os.Getenv(memoryAddress)), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("id0000", "secret00", ""),
	})
	name := fmt.Sprint("memory", n)
	client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}) // it may be there
	bucket, err := s3blob.OpenBucket(t.Context(), client, name, nil)
	must(t, err)
	defer bucket.Close()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "x.sqlite3")+"?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)")
	must(t, err)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE records (id integer PRIMARY KEY, encrypted_kms_key text)")
	must(t, err)
	model, err := field.NewModel[memoryRecord](kmstest.Box(t), field.Config{Table: "records", Files: true})
	must(t, err)
	manager, err := attach.New(t.Context(), db, field.SQLite, model, attach.Config{Many: []string{"files"}, Buckets: map[string]attach.Bucket{"s3": gocloud.Attachments(bucket)}})
	must(t, err)
	must(t, manager.CreateTables(t.Context()))
	upload := func(size int64) {
		p, err := manager.Upload(context.Background(), &memoryRecord{ID: 1}, "files", peakmemory.File(size), attach.Options{})
		if err == nil {
			err = p.Discard(context.Background())
		}
		if err != nil {
			t.Error(err)
		}
	}
	upload(1000)
	debug.FreeOSMemory()
	idle := memoryOf(t, "VmRSS:")
	must(t, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)) // forget the peak
	var all sync.WaitGroup
	for range n {
		all.Go(func() { upload(max(200/int64(n), 40) << 20) })
	}
	all.Wait()
	fmt.Println("took KiB:", memoryOf(t, "VmHWM:")-idle)
}

// memoryOf returns a line of /proc/self/status in KiB.
func memoryOf(t *testing.T, line string) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	must(t, err)
	_, text, _ := strings.Cut(string(status), line)
	_, err = fmt.Sscan(text, &kib)
	must(t, err)
	return kib
}
