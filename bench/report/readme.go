package report

import (
	"fmt"
	"os"
	"strings"
)

// What is between the marks is written by this program.
const (
	begin = "<!-- results of go run . -->\n"
	end   = "<!-- end of results -->"
)

// Replace puts text between the marks of a file.
func Replace(file, text string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(content), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no %q with %q after it", file, strings.TrimSpace(begin), end)
	}
	return os.WriteFile(file, []byte(head+begin+"\n"+text+"\n"+end+tail), 0o644)
}
