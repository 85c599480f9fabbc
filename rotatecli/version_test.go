package rotatecli

import (
	"runtime/debug"
	"testing"
)

func TestVersionIn(t *testing.T) {
	t.Parallel()
	for want, info := range map[string]debug.BuildInfo{
		"v1.2.3":                    {Main: debug.Module{Path: module, Version: "v1.2.3"}},
		"v1.2.4":                    {Main: debug.Module{Path: "example.org/ops", Version: "v9"}, Deps: []*debug.Module{{Path: "example.org/a", Version: "v7"}, {Path: module, Version: "v1.2.4"}}},
		"v1.2.5, replaced by ../x ": {Deps: []*debug.Module{{Path: module, Version: "v1.2.5", Replace: &debug.Module{Path: "../x"}}}},
		"":                          {Main: debug.Module{Path: "example.org/ops", Version: "v9"}},
	} {
		if got := versionIn(&info); got != want {
			t.Errorf("versionIn() = %q, want %q", got, want)
		}
	}
}
