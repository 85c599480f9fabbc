// Storage: a web application that keeps files as the guides of Rails' Active Storage do it. A
// configuration names a plain and an encrypted service, and the tenant of a request chooses one.
// Files come through the application, or the browser encrypts them; the application decrypts and
// sends any range of them.
//
//	go run ./examples/storage                     # in folders; then open the address it prints
//	go run ./examples/storage -services examples/storage/s3.yml
//
// The second one needs a bucket and these variables, here of a server on this machine:
//
//	STORAGE_ENDPOINT=http://127.0.0.1:9000 STORAGE_BUCKET=files AWS_REGION=us-east-1
//	AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…
//
// With -dir the folder is yours: look into plain, encrypted and sealed. examples/files shows
// links to share and a rotation.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

//go:embed disk.yml
var diskServices []byte

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code, err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string, out io.Writer) (code int, err error) {
	flags := flag.NewFlagSet("storage", flag.ContinueOnError)
	dir := flags.String("dir", filepath.Join(os.TempDir(), "kmsencrypted-storage"), "folder of database, key and files")
	addr := flags.String("addr", "127.0.0.1:8080", "address to listen at")
	services := flags.String("services", "", "file with the services (default: disk.yml of this example)")
	if err := flags.Parse(args); err != nil {
		return 2, nil // flag has said why
	}
	text := diskServices
	if *services != "" {
		if text, err = os.ReadFile(*services); err != nil {
			return 1, err
		}
	}
	app, err := open(ctx, *dir, text)
	if err != nil {
		return 1, err
	}
	defer app.Close()
	return 0, app.listen(ctx, *addr, out)
}

// listen serves until the context ends. It prints its address.
func (a *app) listen(ctx context.Context, addr string, out io.Writer) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	fmt.Fprintf(out, "http://%s/\n", listener.Addr())
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
		_, err := a.files.Sweep(ctx)
		_, errSealed := a.sealed.Sweep(ctx)
		if err = errors.Join(err, errSealed); err != nil && ctx.Err() == nil {
			slog.Error("sweep", "error", err)
		}
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
		}
	}
}
