package report

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
)

var model = regexp.MustCompile(`(?m)^model name\s*: (.*)$`)

// Machine says what this runs on, such as "Intel Xeon, 2 cores, Go 1.26.8".
func Machine() string {
	name := runtime.GOARCH
	cpu, _ := os.ReadFile("/proc/cpuinfo") // Linux only
	if found := model.FindSubmatch(cpu); found != nil {
		name = strings.NewReplacer("(R)", "", "(TM)", "", " Processor", "").Replace(string(found[1]))
	}
	return fmt.Sprintf("%s, %d cores, Go %s", strings.TrimSpace(name), runtime.NumCPU(), strings.TrimPrefix(runtime.Version(), "go"))
}

// Load returns the load average of the last minute, or "unknown".
func Load() string {
	load, _ := os.ReadFile("/proc/loadavg") // Linux only
	if first, _, ok := strings.Cut(string(load), " "); ok {
		return first
	}
	return "unknown"
}
