// Command bench compares this library with other ones and with limits, in the same
// run: fields, files, ranges, rotation and indexes. It writes a table into README.md
// and a picture for each topic. It is a module of its own so that nobody else
// downloads the peers.
//
//	go run .
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/kmsencrypted/kmsencrypted/bench/fields"
	"github.com/kmsencrypted/kmsencrypted/bench/files"
	"github.com/kmsencrypted/kmsencrypted/bench/indexes"
	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/bench/report"
	"github.com/kmsencrypted/kmsencrypted/bench/rotation"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

func main() {
	each := flag.Duration("each", 2500*time.Millisecond, "time for each comparison")
	readme := flag.String("readme", "README.md", "file with the marks between which the tables go")
	pictures := flag.String("pictures", "../docs/pictures", "folder of the pictures")
	flag.Parse()
	if err := run(*each, *readme, *pictures); err != nil {
		log.Fatal(err)
	}
}

func run(each time.Duration, readme, pictures string) error {
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	topics, err := topics(folder)
	if err != nil {
		return err
	}
	load := report.Load()
	var measured []report.Topic
	for _, t := range topics {
		m := report.Measure(t, each)
		fmt.Println(report.Table([]report.Topic{m}))
		if err := draw(filepath.Join(pictures, picture(t)), m); err != nil {
			return err
		}
		measured = append(measured, m)
	}
	conditions := fmt.Sprintf("%s; load average %s before and %s after. Each comparison took %v or 31 turns, whichever is longer.\n\n",
		report.Machine(), load, report.Load(), each)
	return report.Replace(readme, conditions+report.Table(measured))
}

// topics returns what is compared. Objects are files in folder.
func topics(folder string) ([]job.Topic, error) {
	ofFiles, err := files.Topics(folder)
	if err != nil {
		return nil, err
	}
	topics := append([]job.Topic{fields.Topic()}, ofFiles...)
	return append(topics, rotation.Topic(), indexes.Topic(limit.Random(32))), nil
}

func picture(t job.Topic) string { return "bench-" + t.Name + ".svg" }

func draw(file string, t report.Topic) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := report.WriteSVG(f, t); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
