package rotatecli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

const module = "github.com/kmsencrypted/kmsencrypted"

// libraryVersion is what --version prints: the version of this library in the
// program, which is the main module or one that it requires.
func libraryVersion() string {
	version := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		version = versionIn(info)
	}
	return fmt.Sprintf("kmsencrypted %s, %s", cmp.Or(version, "(version unknown)"), runtime.Version())
}

func versionIn(info *debug.BuildInfo) string {
	if info.Main.Path == module {
		return info.Main.Version
	}
	for _, m := range info.Deps {
		if m.Path != module {
			continue
		}
		if m.Replace != nil {
			return m.Version + ", replaced by " + m.Replace.Path + " " + m.Replace.Version
		}
		return m.Version
	}
	return ""
}
