package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rooms are the folders of the house from the ground up: an import points to a
// smaller index, or stays inside its own room.
var rooms = []string{"simd", "store", "index", "bench", "cli"}

// homes says which packages alone may import what is named at the left. An entry
// ending in /... is a whole room.
var homes = map[string][]string{
	"github.com/dgraph-io/badger/v4": {"membank/store"},
	"github.com/viterin/vek":         {"membank/simd"},
	"github.com/viterin/vek/vek32":   {"membank/simd"},
	"unsafe":                         {"membank/simd", "membank/store"},
	"github.com/urfave/cli/v2":       {"membank/cli/..."},
	"net/http":                       {"membank/cli/..."},
	"github.com/prometheus/client_golang/prometheus": {"membank/cli/serve"},
}

// pure packages compute: they neither open files nor print.
var pure = []string{"membank/index", "membank/bench/eval", "membank/index/memory"}

func TestImportsPointDown(t *testing.T) {
	for _, p := range listPackages(t) {
		room := roomOf(p.ImportPath)
		if room < 0 {
			t.Errorf("%s is in none of the five rooms %v", p.ImportPath, rooms)
		}
		for _, imported := range p.Imports {
			if below := roomOf(imported); strings.HasPrefix(imported, "membank/") && below > room {
				t.Errorf("%s imports %s, which is above it", p.ImportPath, imported)
			}
			if allowed, bound := homes[imported]; bound && !slices.ContainsFunc(allowed, func(home string) bool {
				prefix, whole := strings.CutSuffix(home, "/...")
				return p.ImportPath == home || whole && strings.HasPrefix(p.ImportPath+"/", prefix+"/")
			}) {
				t.Errorf("%s imports %s, which belongs to %v alone", p.ImportPath, imported, allowed)
			}
			if p.ImportPath == "membank/cli/serve" && slices.Contains([]string{"membank/cli", "membank/store", "membank/index", "github.com/urfave/cli/v2"}, imported) {
				t.Errorf("%s imports %s, yet it knows HTTP and no banks", p.ImportPath, imported)
			}
			if slices.Contains(pure, p.ImportPath) && slices.Contains([]string{"os", "io/ioutil", "log", "log/slog"}, imported) {
				t.Errorf("%s imports %s, yet it only computes", p.ImportPath, imported)
			}
		}
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// listPackages returns this module's packages as `go list -deps` sees them from
// the binary, and every other package of the module beside them.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,Standard", "membank/...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		if strings.HasPrefix(p.ImportPath, "membank/") {
			packages = append(packages, p)
		}
	}
	if len(packages) < len(rooms) {
		t.Fatalf("go list names %d packages of this module, fewer than its rooms", len(packages))
	}
	return packages
}

func roomOf(path string) int {
	rest, _ := strings.CutPrefix(path, "membank/")
	room, _, _ := strings.Cut(rest, "/")
	return slices.Index(rooms, room)
}
