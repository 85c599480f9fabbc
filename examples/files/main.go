// Files: a small web application that keeps documents encrypted, with SQLite and a
// folder for the objects. It uploads, lists, shows pictures, videos and texts, and
// shares links that expire.
//
//	go run ./examples/files                       # then open the address it prints
//
// Later everything moves to the second key, while the application runs, with a bar:
//
//	go run ./examples/files -current 2 rotate plan --to 2 --kind rekey
//	go run ./examples/files -current 2 rotate run --to 2 --kind rekey --writers-are-ours
//	go run ./examples/files -current 2            # the application, from now on with it
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string) (code int, err error) {
	flags := flag.NewFlagSet("files", flag.ContinueOnError)
	dir := flags.String("dir", filepath.Join(os.TempDir(), "kmsencrypted-files"), "folder of database, keys and objects")
	addr := flags.String("addr", "127.0.0.1:8080", "address to listen at")
	current := flags.Int("current", 1, "version that is written: 1 or 2")
	if err := flags.Parse(args); err != nil {
		return 2, nil // flag has said why
	}
	app, err := open(ctx, *dir, *current)
	if err != nil {
		return 1, err
	}
	defer app.Close()
	if flags.NArg() > 0 {
		return app.operations(os.Stdout, os.Stderr).Run(ctx, flags.Args()), nil
	}
	return 0, app.listen(ctx, *addr)
}

// listen serves until the context ends.
func (a *app) listen(ctx context.Context, addr string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	fmt.Printf("http://%s/\n", listener.Addr())
	go a.sweepNowAndThen(ctx)
	go func() {
		<-ctx.Done()
		soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		server.Shutdown(soon)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// sweepNowAndThen deletes the objects of what was deleted and of uploads that never
// came to an end.
func (a *app) sweepNowAndThen(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := a.files.Sweep(ctx); err != nil && ctx.Err() == nil {
			slog.Error("sweep", "error", err)
		}
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
		}
	}
}
