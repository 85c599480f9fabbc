package local

import (
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/durable"
)

// write writes text to a temporary file in folder. publish moves it to its place,
// so that no process sees half a key file. The file and its name are on disk
// before anything is wrapped under the key.
func write(folder, text string, publish func(temporary *os.File) error) error {
	temporary, err := os.CreateTemp(folder, ".kmsencrypted-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	if err := writeAndClose(temporary, text); err != nil {
		return err
	}
	if err := publish(temporary); err != nil {
		return err
	}
	return durable.SyncFolder(folder)
}

func writeAndClose(file *os.File, text string) error {
	_, err := file.WriteString(text)
	if err == nil {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	return err
}

// newLine returns the line of a key file with a new random key. The id is the
// day and a random number: copies of a key file on two machines may be rotated on
// the same day, and their keys must not have one id.
func newLine(now time.Time) string {
	var id [6]byte
	var b [KeySize]byte
	rand.Read(id[:])
	rand.Read(b[:])
	return fmt.Sprintf("%s.%x %x\n", now.UTC().Format(time.DateOnly), id, b)
}
