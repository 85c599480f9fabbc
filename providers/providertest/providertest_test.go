package providertest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

const flawVariable = "KMSENCRYPTED_PROVIDERTEST_FLAW"

// TestMemory passes; with a flaw, named by the environment, it has to fail.
func TestMemory(t *testing.T) {
	t.Parallel()
	providertest.Run(t, harness(os.Getenv(flawVariable)))
}

// TestFlawsAreNoticed runs the suite on providers that make one mistake each.
func TestFlawsAreNoticed(t *testing.T) {
	if os.Getenv(flawVariable) != "" {
		t.Skip("this is the inner run")
	}
	t.Parallel()
	for flaw, test := range flaws {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestMemory$/^"+test+"$")
			cmd.Env = append(os.Environ(), flawVariable+"="+flaw)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestMemory/"+test) {
				t.Errorf("the suite does not notice (%v):\n%s", err, out)
			}
		})
	}
}

const noService = "there is no service"

func TestLocal(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		Open: func(t *testing.T) providertest.Key {
			return providertest.Key{Provider: newLocal(t), Other: newLocal(t)}
		},
		Lacks: map[string]string{
			"Missing": "a key file that is missing cannot be opened", "Rotate": "a key file is opened anew after its rotation",
			"Disable": noService, "DenyEncrypt": noService, "DenyDecrypt": noService,
			"Throttle": noService, "Interrupt": noService, "Hang": noService,
		},
	})
}

func newLocal(t *testing.T) *local.Provider {
	t.Helper()
	p, err := local.Create(filepath.Join(t.TempDir(), "keys.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTestKey(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		Deterministic: true,
		Open:          func(*testing.T) providertest.Key { return providertest.Key{Provider: testkey.New()} },
		Lacks: map[string]string{
			"Other": "there is one test key", "Missing": "it cannot be missing", "Rotate": "it has no versions",
			"Disable": noService, "DenyEncrypt": noService, "DenyDecrypt": noService,
			"Throttle": noService, "Interrupt": noService, "Hang": noService,
		},
	})
}
