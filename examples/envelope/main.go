// Envelope draws the picture of the README: one record, its data key, and every
// byte that the database stores of it. The bytes are those of record.json, which
// this program sealed once and opens again before it draws them.
//
//	go run ./examples/envelope > docs/envelope.svg
//	go run ./examples/envelope -new > examples/envelope/record.json
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
)

//go:embed record.json
var recordJSON []byte

func main() {
	fresh := flag.Bool("new", false, "seal another record and print it as JSON")
	flag.Parse()
	ctx := context.Background()
	if *fresh {
		if err := printNew(ctx, os.Stdout); err != nil {
			log.Fatal(err)
		}
		return
	}
	svg, err := picture(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(svg)
}

// picture opens the record of record.json and draws it.
func picture(ctx context.Context) (string, error) {
	var r record
	if err := json.Unmarshal(recordJSON, &r); err != nil {
		return "", err
	}
	e, err := dissect(ctx, r)
	if err != nil {
		return "", err
	}
	return draw(e), nil
}

func printNew(ctx context.Context, out io.Writer) error {
	r, err := seal(ctx)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, string(text))
	return err
}
