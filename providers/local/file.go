package local

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Open reads a key file. On Unix it refuses a file that others than its owner
// may read or write.
func Open(path string) (*Provider, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	return parse("local:"+path, text)
}

// FromEnv reads the same text from an environment variable; lines may be
// separated by commas there.
func FromEnv(variable string) (*Provider, error) {
	source := "local:env:" + variable
	text, ok := os.LookupEnv(variable)
	if !ok {
		return nil, fmt.Errorf("%s: %w: the variable is not set", source, kmsencrypted.ErrConfig)
	}
	return parse(source, strings.ReplaceAll(text, ",", "\n"))
}

// Create makes a key file with one new random key, readable by its owner only,
// and opens it. It never overwrites a file.
func Create(path string) (*Provider, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := writeAndClose(file, newLine(time.Now(), nil)); err != nil {
		return nil, err
	}
	return Open(path)
}

// Rotate puts a new random key in front of those in the file and opens it. What
// was wrapped before opens as before. The file is replaced in one step.
func Rotate(path string) (*Provider, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys("local:"+path, text)
	if err != nil {
		return nil, err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".kmsencrypted-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(temporary.Name())
	if err := writeAndClose(temporary, newLine(time.Now(), keys)+text); err != nil {
		return nil, err
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return nil, err
	}
	return Open(path)
}

// writeAndClose makes sure that a key is on the disk before anything is wrapped
// under it.
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

// newLine is a key file's line with a new random key, named by the day and, if
// that name is taken, a number.
func newLine(now time.Time, taken []key) string {
	day := now.UTC().Format("2006-01-02")
	id := day
	for n := 2; contains(taken, id); n++ {
		id = fmt.Sprintf("%s.%d", day, n)
	}
	var b [KeySize]byte
	rand.Read(b[:])
	return fmt.Sprintf("%s %x\n", id, b)
}

func contains(keys []key, id string) bool {
	for _, k := range keys {
		if k.id == id {
			return true
		}
	}
	return false
}

func readPrivate(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	const others fs.FileMode = 0o077
	if runtime.GOOS != "windows" && info.Mode().Perm()&others != 0 {
		return "", fmt.Errorf("local:%s: %w: others may read it (%v); chmod 600 it", path, kmsencrypted.ErrConfig, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	return string(text), err
}

func parse(source, text string) (*Provider, error) {
	keys, err := parseKeys(source, text)
	if err != nil {
		return nil, err
	}
	return newProvider(source, keys)
}

// parseKeys names the line of a mistake and never what stands in it.
func parseKeys(source, text string) (keys []key, err error) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		id, digits, _ := strings.Cut(line, " ")
		bytes, err := hex.DecodeString(strings.TrimSpace(digits))
		if err != nil || len(bytes) != KeySize || !validID(id) {
			return nil, fmt.Errorf("%s: %w: line %d: %w", source, kmsencrypted.ErrConfig, n, errKeyLine)
		}
		if contains(keys, id) {
			return nil, fmt.Errorf("%s: %w: line %d: key %q stands there twice", source, kmsencrypted.ErrConfig, n, id)
		}
		keys = append(keys, key{id: id, bytes: bytes})
	}
	return keys, lines.Err()
}

var idShape = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func validID(id string) bool { return idShape.MatchString(id) }
