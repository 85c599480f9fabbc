package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/kmsencrypted/kmsencrypted/files/s3ec"
)

// BenchmarkS3EC writes and reads an object of 64 MiB with this module and with AWS's
// encryption client, by turns on one server, and reports how much faster this module is and
// what each one allocates. AWS's client gets and returns all of it in memory; this one
// is given a stream of unknown size, and checks the object before it returns a byte.
func BenchmarkS3EC(b *testing.B) {
	const size = 64 << 20
	content := numbered(size)
	for server, endpoint := range s3Endpoints(b) {
		w := newS3ECWorld(b, endpoint)
		ours, theirs := w.client(b, s3ec.Options{Keys: []s3ec.Key{w.keys["kms"]}}), w.awsClient(b)
		ctx := context.Background()
		for what, turn := range map[string][2]func(name string) error{
			"Write": {
				func(name string) error {
					_, err := ours.Put(ctx, name, struct{ io.Reader }{bytes.NewReader(content)}, -1, s3ec.PutOptions{})
					return err
				},
				func(name string) error {
					_, err := theirs.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(s3Name), Key: &name, Body: bytes.NewReader(content)})
					return err
				},
			},
			"Read": {
				func(string) error {
					r, err := ours.Open(ctx, "written", s3ec.OpenOptions{})
					if err != nil {
						return err
					}
					_, err = io.Copy(io.Discard, io.NewSectionReader(r, 0, r.Size()))
					return errors.Join(err, r.Close())
				},
				func(string) error {
					out, err := theirs.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(s3Name), Key: aws.String("written")})
					if err != nil {
						return err
					}
					_, err = io.Copy(io.Discard, out.Body)
					return errors.Join(err, out.Body.Close())
				},
			},
		} {
			b.Run(server+"/"+what, func(b *testing.B) {
				_, err := ours.Put(ctx, "written", bytes.NewReader(content), size, s3ec.PutOptions{})
				must(b, err)
				var took [2][]time.Duration
				var allocated [2]uint64
				n := 0
				for b.Loop() {
					for i, do := range turn {
						n++
						var before, after runtime.MemStats
						runtime.ReadMemStats(&before)
						began := time.Now()
						must(b, do(fmt.Sprint(what, n)))
						took[i] = append(took[i], time.Since(began))
						runtime.ReadMemStats(&after)
						allocated[i] += after.TotalAlloc - before.TotalAlloc
					}
				}
				median := func(i int) float64 {
					slices.Sort(took[i])
					return took[i][len(took[i])/2].Seconds()
				}
				b.ReportMetric(size/1e6/median(0), "MB/s")
				b.ReportMetric(size/1e6/median(1), "aws-MB/s")
				b.ReportMetric(median(1)/median(0), "times-aws")
				b.ReportMetric(float64(allocated[0])/float64(len(took[0]))/(1<<20), "MiB")
				b.ReportMetric(float64(allocated[1])/float64(len(took[1]))/(1<<20), "aws-MiB")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
