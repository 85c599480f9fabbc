package local

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

// Open reads the key file at path and closes it. On Unix it returns
// [kmsencrypted.ErrConfig] for a file that users other than its owner may read or
// write, and [fs.ErrNotExist] if there is none.
//
// There is no service to call, and the provider has no Close method. It does not
// notice later changes of the file.
func Open(path string) (*Provider, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	return parse("local:"+path, text)
}

// FromEnv is like [Open] but reads the text of a key file from an environment
// variable, where commas may separate the lines. It returns
// [kmsencrypted.ErrConfig] if the variable is not set.
func FromEnv(variable string) (*Provider, error) {
	source := "local:env:" + variable
	text, ok := os.LookupEnv(variable)
	if !ok {
		return nil, fmt.Errorf("%s: %w: the variable is not set", source, kmsencrypted.ErrConfig)
	}
	return parse(source, strings.ReplaceAll(text, ",", "\n"))
}

func readPrivate(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("local:%s: there is no key file: restore it, or make one with local.Create or kmsencrypted keygen if nothing was sealed yet: %w", path, err)
	}
	if err != nil {
		return "", err
	}
	const others fs.FileMode = 0o077
	if runtime.GOOS != "windows" && info.Mode().Perm()&others != 0 {
		return "", fmt.Errorf("local:%s: %w: other users may access it (%v); run chmod 600", path, kmsencrypted.ErrConfig, info.Mode().Perm())
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

// parseKeys reports the line number of an error, never its content.
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
			return nil, fmt.Errorf("%s: %w: line %d: key %q appears twice", source, kmsencrypted.ErrConfig, n, id)
		}
		keys = append(keys, key{id: id, bytes: bytes})
	}
	return keys, lines.Err()
}

func contains(keys []key, id string) bool {
	return slices.ContainsFunc(keys, func(k key) bool { return k.id == id })
}

var idShape = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func validID(id string) bool { return idShape.MatchString(id) }
